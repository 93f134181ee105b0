-- The end of a job, in the transaction that adds its delivery. A stale token changes nothing.
UPDATE jobs
SET state = CASE WHEN :error_code IS NULL THEN 'done' ELSE 'failed' END, error_code = :error_code,
    crashes = crashes + :crashed, finished_at = :now, lease_token = NULL, lease_until = NULL
WHERE seq = :seq AND state = 'leased' AND lease_token = :token
