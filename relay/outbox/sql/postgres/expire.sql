-- What has been due for too long where nobody may call; what another has in hand is left to the next slice.
UPDATE deliveries SET state = 'dead', reason = 'expired', finished_at = :now
WHERE seq = ANY(ARRAY(
    SELECT seq FROM destinations JOIN deliveries ON deliveries.destination_id = destinations.id
    WHERE (destinations.state <> 'active' OR open_until IS NOT NULL)
      AND deliveries.state = 'pending' AND due_at < :before
    LIMIT :slice FOR UPDATE OF deliveries SKIP LOCKED
))
RETURNING stream_id
