-- What a relay has just claimed, or another has in hand, is left to it. The stream was locked by the statement before.
UPDATE deliveries SET state = 'cancelled', finished_at = :now
WHERE seq = (SELECT seq FROM deliveries WHERE seq = :seq AND state = 'pending' FOR NO KEY UPDATE SKIP LOCKED)
RETURNING stream_id
