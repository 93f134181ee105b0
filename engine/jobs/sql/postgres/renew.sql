-- The work is still going on: a JSON array of [seq, token] pairs. Those that come back are still held.
UPDATE jobs SET lease_until = :until
FROM (SELECT CAST(value ->> 0 AS bigint) AS seq, value ->> 1 AS token
      FROM json_array_elements(CAST(:leases AS json))) AS held
WHERE jobs.state = 'leased' AND jobs.seq = held.seq AND jobs.lease_token = held.token
RETURNING jobs.seq
