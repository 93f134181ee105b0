-- Streams of which no delivery is left, and that came to their end, if they have one, so long ago that no producer asks any
-- more. Those that somebody has to look after stay. Whoever uses a key again begins another stream, with another id
-- (AUTOINCREMENT) and positions from 1.
DELETE FROM streams
WHERE id > :after AND id <= :last AND (finished_at IS NULL OR finished_at <= :before)
  AND NOT (state IN ('open', 'ended') AND (transport = 'ws' OR producer_until IS NOT NULL))
  AND NOT EXISTS (SELECT 1 FROM deliveries WHERE stream_id = streams.id)
