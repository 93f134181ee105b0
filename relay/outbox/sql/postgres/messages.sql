-- What is to be sent next on a socket, in order.
SELECT seq, id, method, kind, content_type, traceparent, body_bytes, created_at, attempts, lapses, position,
       (SELECT body FROM bodies WHERE bodies.seq = deliveries.seq) AS body
FROM deliveries
WHERE stream_id = :stream_id AND position > :after AND state IN ('pending', 'leased') AND state = 'pending'
ORDER BY position LIMIT :room
