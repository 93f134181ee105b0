-- Claim the chosen deliveries, given as a JSON array of seqs.
UPDATE deliveries SET state = 'leased', lease_token = :token, lease_until = :until
WHERE state = 'pending' AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))
