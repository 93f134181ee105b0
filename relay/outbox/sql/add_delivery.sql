-- One delivery, due at once, on the producer's own transaction.
INSERT INTO deliveries
    (id, destination_id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at)
SELECT :id, destinations.id, :url, :method, :kind, :content_type, :headers, :traceparent, length(:body), :now, :now
FROM destinations WHERE origin = :origin
