-- A lease whose holder went quiet: the delivery is free again, and its next attempt gets a fresh number.
UPDATE deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE state = 'leased' AND lease_until <= :now
