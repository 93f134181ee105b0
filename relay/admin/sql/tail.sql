-- Attempts since a mark: later ones of what was waiting then, and all of what was added after. The seeks go by the
-- primary key; an index on the time would be paid for by every attempt.
WITH marked (seq, number) AS (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:mark)
), fresh (seq, number) AS (
    SELECT attempts.seq, attempts.number FROM marked CROSS JOIN attempts
    WHERE attempts.seq = marked.seq AND attempts.number > marked.number
    UNION ALL
    SELECT seq, number FROM attempts WHERE seq > :high_water
)
SELECT deliveries.id, destinations.origin AS destination, deliveries.state, deliveries.reason,
       attempts.number, attempts.started_at, attempts.lag, attempts.duration, attempts.outcome, attempts.status,
       attempts.detail
FROM fresh
JOIN attempts ON attempts.seq = fresh.seq AND attempts.number = fresh.number
JOIN deliveries ON deliveries.seq = attempts.seq
JOIN destinations ON destinations.id = deliveries.destination_id
WHERE (:outcome IS NULL OR attempts.outcome = :outcome)
  AND (:destination IS NULL OR destinations.origin = :destination)
ORDER BY attempts.started_at
