-- An attempt was cut short: free again at once. Part of it may have been sent, so the next one gets a fresh number.
UPDATE deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE seq = :seq AND state = 'leased' AND lease_token = :token
