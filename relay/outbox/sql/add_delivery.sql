-- One delivery, on the producer's own transaction: due at once, or when the one before it in its stream has ended. The
-- messages of a WebSocket are never due: whoever holds the socket reads them in order.
INSERT INTO deliveries
    (id, destination_id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
     schedule, stream_id, position)
SELECT :id, destinations.id, :url, :method, :kind, :content_type, :headers, :traceparent, length(:body), :now,
       CASE WHEN streams.transport = 'ws'
              OR EXISTS (SELECT 1 FROM deliveries AS before INDEXED BY deliveries_stream
                         WHERE before.stream_id = streams.id AND before.state IN ('pending', 'leased'))
            THEN NULL ELSE :now END,
       :schedule, streams.id, streams.position
FROM destinations LEFT JOIN streams ON streams.key = :stream
WHERE destinations.origin = :origin
ON CONFLICT (id) DO NOTHING
