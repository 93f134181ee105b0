-- The last message is in. A stream of which nothing waits any more is closed at once; a WebSocket is closed by its holder.
UPDATE streams
SET producer_until = NULL, state = iif(busy, 'ended', 'closed'), finished_at = iif(busy, NULL, :now)
FROM (SELECT one.id AS it, one.transport = 'ws' OR EXISTS (
          SELECT 1 FROM deliveries INDEXED BY deliveries_stream
          WHERE stream_id = one.id AND deliveries.state IN ('pending', 'leased')) AS busy
      FROM streams AS one WHERE one.key = :key)
WHERE streams.id = it AND streams.state = 'open'
