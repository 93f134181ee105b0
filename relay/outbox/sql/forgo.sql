-- A claim whose answer was lost with the connection: nobody works on what it leased, if it leased anything.
UPDATE deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL
WHERE state = 'leased' AND lease_token = :token
