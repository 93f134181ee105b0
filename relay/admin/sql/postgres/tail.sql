-- Attempts since a mark: later ones of what was watched then, and all of what was added after. The seeks go by the
-- primary key; an index on the time would be paid for by every attempt.
WITH marked AS MATERIALIZED (
    SELECT CAST(value ->> 0 AS bigint) AS seq, CAST(value ->> 1 AS integer) AS number
    FROM json_array_elements(CAST(:mark AS json))
), fresh AS (
    SELECT attempts.seq, attempts.number
    FROM marked JOIN attempts ON attempts.seq = marked.seq AND attempts.number > marked.number
    UNION ALL
    SELECT seq, number FROM attempts
    WHERE seq > :high_water AND NOT EXISTS (SELECT 1 FROM marked WHERE marked.seq = attempts.seq)
)
SELECT deliveries.id, destinations.origin AS destination, deliveries.state, deliveries.reason,
       attempts.number, attempts.started_at, attempts.lag, attempts.duration, attempts.outcome, attempts.status,
       attempts.detail
FROM fresh
JOIN attempts ON attempts.seq = fresh.seq AND attempts.number = fresh.number
JOIN deliveries ON deliveries.seq = attempts.seq
JOIN destinations ON destinations.id = deliveries.destination_id
WHERE (CAST(:outcome AS text) IS NULL OR attempts.outcome = :outcome)
  AND (CAST(:destination AS text) IS NULL OR destinations.origin = :destination)
ORDER BY attempts.started_at
