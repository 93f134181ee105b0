-- The first of a stream may go, unless one of it is already on its way. A second call changes nothing. Messages of a
-- WebSocket are never due: whoever holds the socket reads them.
UPDATE deliveries SET due_at = :due_at
WHERE seq = (SELECT seq FROM deliveries WHERE stream_id = :stream_id AND state IN ('pending', 'leased')
             ORDER BY position LIMIT 1)
  AND due_at IS NULL AND NOT EXISTS (SELECT 1 FROM streams WHERE streams.id = :stream_id AND transport = 'ws')
  AND NOT EXISTS (SELECT 1 FROM deliveries AS other
                  WHERE other.stream_id = :stream_id AND other.state IN ('pending', 'leased')
                    AND other.due_at IS NOT NULL)
