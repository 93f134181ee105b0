-- Unfinished work goes back as it was: a JSON array of [seq, token] pairs.
UPDATE jobs SET state = 'queued', lease_token = NULL, lease_until = NULL
WHERE state = 'leased'
  AND (seq, lease_token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:leases))
