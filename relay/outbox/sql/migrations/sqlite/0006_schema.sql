-- Names of the outbox's own, beside whatever else is in the file. What refers to a table by its name follows it; indexes
-- have names of their own, and are made anew. A database that has none of these gets them at once: see ../../baselines.
ALTER TABLE destinations RENAME TO outspoken_destinations;
ALTER TABLE streams RENAME TO outspoken_streams;
ALTER TABLE deliveries RENAME TO outspoken_deliveries;
ALTER TABLE bodies RENAME TO outspoken_bodies;
ALTER TABLE attempts RENAME TO outspoken_attempts;
ALTER TABLE signing_keys RENAME TO outspoken_signing_keys;
ALTER TABLE relays RENAME TO outspoken_relays;
ALTER TABLE audit RENAME TO outspoken_audit;
ALTER TABLE secrets RENAME TO outspoken_secrets;
DROP INDEX deliveries_due;
DROP INDEX deliveries_next;
DROP INDEX deliveries_leased;
DROP INDEX deliveries_stream;
DROP INDEX deliveries_dead;
DROP INDEX deliveries_of_stream;
DROP INDEX streams_live;
