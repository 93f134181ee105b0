-- The newest attempts, oldest of them first.
SELECT * FROM (
    SELECT deliveries.id, destinations.origin AS destination, deliveries.state, deliveries.reason,
           attempts.number, attempts.started_at, attempts.lag, attempts.duration, attempts.outcome, attempts.status,
           attempts.detail
    FROM attempts
    JOIN deliveries ON deliveries.seq = attempts.seq
    JOIN destinations ON destinations.id = deliveries.destination_id
    WHERE (:outcome IS NULL OR attempts.outcome = :outcome)
      AND (:destination IS NULL OR destinations.origin = :destination)
    ORDER BY attempts.started_at DESC LIMIT :limit
) ORDER BY started_at
