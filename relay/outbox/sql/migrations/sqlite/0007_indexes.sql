-- Partial, so that a claim costs the same however many rows were delivered. A query must spell the literal
-- `state = 'pending'`: SQLite does not match a bound parameter to a partial index.
CREATE INDEX outspoken_deliveries_due ON outspoken_deliveries (destination_id, due_at, seq) WHERE state = 'pending';
CREATE INDEX outspoken_deliveries_next ON outspoken_deliveries (due_at) WHERE state = 'pending';
CREATE INDEX outspoken_deliveries_leased ON outspoken_deliveries (destination_id, lease_until) WHERE state = 'leased';
CREATE UNIQUE INDEX outspoken_deliveries_stream ON outspoken_deliveries (stream_id, position)
    WHERE stream_id IS NOT NULL AND state IN ('pending', 'leased');
CREATE INDEX outspoken_deliveries_dead ON outspoken_deliveries (finished_at) WHERE state = 'dead';

-- Those that somebody has to look after, however many others are open or kept. A query must spell the same conditions.
CREATE INDEX outspoken_streams_live ON outspoken_streams (transport, state)
    WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL);
-- A stream can be forgotten once no delivery of it is left; without this, to find that out would read all deliveries.
CREATE INDEX outspoken_deliveries_of_stream ON outspoken_deliveries (stream_id) WHERE stream_id IS NOT NULL;
