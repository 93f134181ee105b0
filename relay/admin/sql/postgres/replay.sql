-- Once more from the start of the schedule. Attempts become lapses, so that the next attempt's number is a fresh one.
-- Of a stream it waits its turn (due_at NULL); without its body, in a killed stream or of a WebSocket, it stays what it
-- is. What another has in hand is left to it. The stream was locked by the statement before.
UPDATE deliveries
SET state = 'pending', due_at = CASE WHEN stream_id IS NULL THEN CAST(:due_at AS double precision) END,
    lapses = lapses + attempts, attempts = 0, scheduled_from = :due_at, pointer = 0, finished_at = NULL, reason = NULL
WHERE seq = (SELECT seq FROM deliveries WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled')
             FOR NO KEY UPDATE SKIP LOCKED)
  AND EXISTS (SELECT 1 FROM bodies WHERE bodies.seq = :seq)
  AND NOT EXISTS (SELECT 1 FROM streams WHERE streams.id = deliveries.stream_id
                  AND (streams.state = 'killed' OR streams.transport = 'ws'))
RETURNING stream_id
