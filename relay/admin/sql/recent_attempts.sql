-- The newest attempts, oldest of them first. What is joined is joined after the choice, which reads all attempts.
SELECT deliveries.id, destinations.origin AS destination, deliveries.state, deliveries.reason,
       attempts.number, attempts.started_at, attempts.lag, attempts.duration, attempts.outcome, attempts.status,
       attempts.detail
FROM (
    SELECT seq, number FROM attempts
    WHERE (CAST(:outcome AS text) IS NULL OR outcome = :outcome)
      AND (CAST(:destination AS text) IS NULL OR :destination = (
            SELECT origin FROM deliveries JOIN destinations ON destinations.id = destination_id
            WHERE deliveries.seq = attempts.seq))
    ORDER BY started_at DESC LIMIT :limit
) AS newest
JOIN attempts ON attempts.seq = newest.seq AND attempts.number = newest.number
JOIN deliveries ON deliveries.seq = newest.seq
JOIN destinations ON destinations.id = deliveries.destination_id
ORDER BY attempts.started_at
