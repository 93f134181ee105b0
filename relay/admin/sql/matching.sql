-- What a bulk act would touch, oldest first, with all that decides whether it may.
SELECT deliveries.seq, deliveries.id, deliveries.state, deliveries.body_bytes, destinations.origin AS destination,
       destinations.state AS destination_state, streams.state AS stream_state,
       EXISTS (SELECT 1 FROM bodies WHERE bodies.seq = deliveries.seq) AS body
FROM deliveries
JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN streams ON streams.id = deliveries.stream_id
WHERE deliveries.state = :state
  AND (:destination IS NULL OR destinations.origin = :destination)
  AND (:outcome IS NULL OR :outcome = (
        SELECT outcome FROM attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
  AND (:id_prefix IS NULL OR substr(deliveries.id, 1, length(:id_prefix)) = :id_prefix)
  AND (:since IS NULL OR deliveries.created_at >= :since)
  AND (:until IS NULL OR deliveries.created_at < :until)
ORDER BY deliveries.seq LIMIT :limit
