-- The work is still going on: a JSON array of [seq, token] pairs. Those that come back are still held.
UPDATE jobs SET lease_until = :until
WHERE state = 'leased'
  AND (seq, lease_token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:leases))
RETURNING seq
