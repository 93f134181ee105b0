-- What waited too long past its due time, because its destination was left alone. A slice, so that claims go on.
UPDATE deliveries SET state = 'dead', reason = 'expired', finished_at = :now
WHERE seq IN (SELECT seq FROM deliveries WHERE state = 'pending' AND due_at < :before LIMIT :slice)
RETURNING stream_id
