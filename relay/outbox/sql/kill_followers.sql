UPDATE deliveries SET state = 'dead', reason = 'stream_killed', finished_at = :now
WHERE stream_id = :stream_id AND state = 'pending'
