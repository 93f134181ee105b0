-- A claim that was never sent goes back as it was.
UPDATE deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL
WHERE seq = :seq AND state = 'leased' AND lease_token = :token
