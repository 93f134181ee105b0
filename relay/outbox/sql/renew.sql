-- The attempt is still running: a JSON array of seqs under one holder's tokens.
UPDATE deliveries SET lease_until = :until
WHERE state = 'leased' AND seq IN (SELECT value FROM json_each(:seqs)) AND lease_token LIKE :holder || '.%'
