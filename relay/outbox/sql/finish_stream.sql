-- The end of a stream, by whoever holds its socket.
UPDATE streams SET state = :state, reason = :reason, finished_at = :now, holder = NULL, holder_until = NULL
WHERE id = :stream_id AND holder = :holder
