-- Unfinished work goes back as it was: a JSON array of [seq, token] pairs.
UPDATE jobs SET state = 'queued', lease_token = NULL, lease_until = NULL
FROM (SELECT CAST(value ->> 0 AS bigint) AS seq, value ->> 1 AS token
      FROM json_array_elements(CAST(:leases AS json))) AS held
WHERE jobs.state = 'leased' AND jobs.seq = held.seq AND jobs.lease_token = held.token
