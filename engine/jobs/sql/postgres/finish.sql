-- The end of a job, in the transaction that keeps its result and adds its delivery. A stale token changes nothing.
-- The media come again: that they had been fetched may have gone unwritten.
UPDATE jobs
SET state = CASE WHEN CAST(:error_code AS text) IS NULL THEN 'done' ELSE 'failed' END, error_code = :error_code,
    crashes = crashes + :crashed, finished_at = :now, lease_token = NULL, lease_until = NULL,
    media = :media, bytes = :bytes, has_audio = greatest(has_audio, :has_audio), duration = :duration
WHERE seq = :seq AND state = 'leased' AND lease_token = :token
