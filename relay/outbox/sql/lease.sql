-- Claim the chosen deliveries, given as a JSON array of seqs.
UPDATE deliveries SET state = 'leased', lease_token = :token, lease_until = :until
WHERE state = 'pending' AND seq IN (SELECT value FROM json_each(:seqs))
