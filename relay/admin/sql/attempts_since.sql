SELECT destinations.origin AS destination, attempts.outcome, attempts.status, attempts.duration, attempts.lag
FROM attempts
JOIN deliveries ON deliveries.seq = attempts.seq
JOIN destinations ON destinations.id = deliveries.destination_id
WHERE attempts.started_at >= :since
