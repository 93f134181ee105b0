-- Into the outbox's schema, beside whatever else is in the database. A database that has none of these gets them there at
-- once: see ../../baselines/postgres.
DROP TRIGGER added ON jobs;
DROP TRIGGER changed ON jobs;
DROP TRIGGER removed ON jobs;
DROP FUNCTION outspoken_jobs_added();
DROP FUNCTION outspoken_jobs_changed();
DROP FUNCTION outspoken_jobs_removed();
DROP FUNCTION outspoken_count(JSON);
ALTER TABLE jobs SET SCHEMA outspoken;
ALTER TABLE results SET SCHEMA outspoken;
ALTER TABLE queues SET SCHEMA outspoken;
ALTER TABLE uploads SET SCHEMA outspoken;
ALTER TABLE api_keys SET SCHEMA outspoken;
