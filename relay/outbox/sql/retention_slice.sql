-- The next rows in the order in which they were added. No index on finished_at: it would be paid for at every
-- settlement, and this walk happens when there is nothing better to do.
SELECT seq, state, created_at, finished_at, body_bytes, stream_id FROM deliveries
WHERE seq > :after ORDER BY seq LIMIT :slice
