-- What a bulk act would touch, oldest first, with all that decides whether it may. Only one arm of `looked` is walked.
WITH looked (seq) AS (
    SELECT seq FROM deliveries INDEXED BY deliveries_due WHERE :state = 'pending' AND state = 'pending'
    UNION ALL
    SELECT seq FROM deliveries INDEXED BY deliveries_dead WHERE :state = 'dead' AND state = 'dead'
    UNION ALL
    SELECT seq FROM deliveries
    WHERE :state NOT IN ('pending', 'dead') AND state = :state AND seq >= :floor AND seq < :older
), chosen (seq) AS (
    SELECT deliveries.seq FROM looked CROSS JOIN deliveries ON deliveries.seq = looked.seq
    WHERE (:destination IS NULL
           OR deliveries.destination_id = (SELECT id FROM destinations WHERE origin = :destination))
      AND (:id_prefix IS NULL OR substr(deliveries.id, 1, length(:id_prefix)) = :id_prefix)
      AND (:since IS NULL OR deliveries.created_at >= :since)
      AND (:until IS NULL OR deliveries.created_at < :until)
      AND (:outcome IS NULL OR :outcome = (
            SELECT outcome FROM attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq LIMIT :limit
)
SELECT deliveries.seq, deliveries.id, deliveries.state, deliveries.body_bytes, destinations.origin AS destination,
       destinations.state AS destination_state, streams.state AS stream_state,
       streams.transport AS stream_transport,
       EXISTS (SELECT 1 FROM bodies WHERE bodies.seq = deliveries.seq) AS body
FROM chosen
JOIN deliveries ON deliveries.seq = chosen.seq
JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN streams ON streams.id = deliveries.stream_id
ORDER BY deliveries.seq
