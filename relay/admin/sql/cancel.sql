UPDATE deliveries SET state = 'cancelled', finished_at = :now WHERE seq = :seq AND state = 'pending'
RETURNING stream_id
