-- Nothing joins a stream while one of its deliveries ends. SQLite has one writer at a time anyway.
SELECT id FROM streams WHERE id = :stream_id
