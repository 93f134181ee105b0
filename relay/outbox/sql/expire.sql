-- What has waited too long past its due time for a destination that is left alone. A slice, so that claims go on. Where
-- deliveries may go they are late because no relay ran, and each gets its attempts.
UPDATE deliveries SET state = 'dead', reason = 'expired', finished_at = :now
WHERE seq IN (
    SELECT seq FROM destinations CROSS JOIN deliveries ON deliveries.destination_id = destinations.id
    WHERE (destinations.state <> 'active' OR open_until IS NOT NULL)
      AND deliveries.state = 'pending' AND due_at < :before AND due_at IS NOT NULL
    LIMIT :slice
)
RETURNING stream_id
