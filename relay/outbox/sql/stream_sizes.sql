-- Streams that can be forgotten, and how many deliveries of each are left.
SELECT id, (SELECT count(*) FROM deliveries WHERE stream_id = streams.id) AS deliveries
FROM streams
WHERE (finished_at IS NULL OR finished_at <= :before)
  AND NOT (state IN ('open', 'ended') AND (transport = 'ws' OR producer_until IS NOT NULL))
