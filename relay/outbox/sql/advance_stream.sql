-- One delivery of a stream has ended: the next one is due.
UPDATE deliveries SET due_at = :now
WHERE due_at IS NULL AND seq = (
    SELECT seq FROM deliveries
    WHERE stream_id = :stream_id AND state IN ('pending', 'leased') ORDER BY position LIMIT 1
)
