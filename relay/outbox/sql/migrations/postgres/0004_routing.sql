-- No producer waits for another: the row of a destination is made by the relay that routes its first deliveries. Made by a
-- producer, it would be locked until that one's transaction ends, and two producers with two new destinations in opposite
-- order would wait for each other for good. Who finds a destination uses it, and nobody else has to route anything.
ALTER TABLE deliveries
    ALTER COLUMN destination_id DROP NOT NULL,
    ADD COLUMN origin TEXT,  -- of a delivery that is yet to be routed
    ADD CONSTRAINT deliveries_routed CHECK ((destination_id IS NULL) = (origin IS NOT NULL)),
    ADD CONSTRAINT deliveries_leased_are_routed CHECK (state <> 'leased' OR destination_id IS NOT NULL);
CREATE INDEX deliveries_unrouted ON deliveries (seq) WHERE destination_id IS NULL;

-- The functions that know of this are made by 0006_functions.sql, in the same transaction.
DROP FUNCTION outspoken_destination(TEXT);

-- What became of deliveries, as long as they are kept. No URL and no header: they hold secrets.
CREATE OR REPLACE VIEW outspoken_deliveries_v1 AS
SELECT deliveries.id, coalesce(destinations.origin, deliveries.origin) AS destination, deliveries.state, deliveries.reason, deliveries.attempts,
       to_timestamp(deliveries.created_at) AS created_at, to_timestamp(deliveries.due_at) AS due_at,
       to_timestamp(deliveries.finished_at) AS finished_at, streams.key AS stream, deliveries.position
FROM deliveries LEFT JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN streams ON streams.id = deliveries.stream_id;
