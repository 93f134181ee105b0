-- Leases that nobody renewed are free again. Another relay may be sweeping too.
UPDATE deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE seq = ANY(ARRAY(SELECT seq FROM deliveries WHERE state = 'leased' AND lease_until <= :now FOR UPDATE SKIP LOCKED))
