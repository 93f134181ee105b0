-- The body, right after its delivery and on the same connection.
INSERT INTO bodies (seq, body) SELECT seq, :body FROM deliveries WHERE id = :id
