-- Nothing joins a stream while one of its deliveries ends: neither would see the other, and the next would never be due.
SELECT id FROM streams WHERE id = :stream_id FOR NO KEY UPDATE
