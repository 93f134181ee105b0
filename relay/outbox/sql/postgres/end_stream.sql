-- The last message is in. A stream of which nothing waits any more is closed at once; a WebSocket is closed by its holder.
UPDATE streams
SET producer_until = NULL, state = CASE WHEN busy THEN 'ended' ELSE 'closed' END,
    finished_at = CASE WHEN busy THEN NULL ELSE CAST(:now AS double precision) END
FROM (SELECT one.id AS it, one.transport = 'ws' OR EXISTS (
          SELECT 1 FROM deliveries WHERE stream_id = one.id AND deliveries.state IN ('pending', 'leased')) AS busy
      FROM streams AS one WHERE one.key = :key FOR NO KEY UPDATE) AS found
WHERE streams.id = it AND streams.state = 'open'
