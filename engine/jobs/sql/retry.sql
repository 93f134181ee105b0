-- Back into the queue, with its recogniser's death counted against it. A stale token changes nothing.
UPDATE jobs SET state = 'queued', crashes = crashes + 1, due_at = :due_at, lease_token = NULL, lease_until = NULL
WHERE seq = :seq AND state = 'leased' AND lease_token = :token
