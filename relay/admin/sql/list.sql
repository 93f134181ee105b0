-- Newest first, before a cursor. Filters that are NULL let everything through.
SELECT deliveries.seq, deliveries.id, deliveries.state, destinations.origin AS destination, deliveries.kind,
       deliveries.created_at, deliveries.due_at, deliveries.finished_at, deliveries.reason, deliveries.body_bytes,
       deliveries.attempts, last.number AS last_number, last.outcome AS last_outcome, last.status AS last_status
FROM deliveries
JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN attempts AS last ON last.seq = deliveries.seq
     AND last.number = (SELECT max(number) FROM attempts WHERE attempts.seq = deliveries.seq)
WHERE deliveries.seq < :older
  AND (:state IS NULL OR deliveries.state = :state)
  AND (:destination IS NULL OR destinations.origin = :destination)
  AND (:outcome IS NULL OR last.outcome = :outcome)
  AND (:id_prefix IS NULL OR substr(deliveries.id, 1, length(:id_prefix)) = :id_prefix)
  AND (:since IS NULL OR deliveries.created_at >= :since)
  AND (:until IS NULL OR deliveries.created_at < :until)
ORDER BY deliveries.seq DESC LIMIT :limit
