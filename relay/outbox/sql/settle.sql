-- The end of one attempt. A stale token changes nothing.
UPDATE deliveries
SET state = :state, due_at = coalesce(:due_at, due_at), attempts = attempts + 1, lease_token = NULL,
    lease_until = NULL, finished_at = :finished_at, reason = :reason, pointer = :pointer
WHERE seq = :seq AND state = 'leased' AND lease_token = :token
