-- The good end of attempts, for all seqs (a JSON array) under one token. A stale token changes nothing.
UPDATE deliveries
SET state = 'delivered', attempts = attempts + 1, lease_token = NULL, lease_until = NULL, finished_at = :finished_at
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND state = 'leased' AND lease_token = :token
