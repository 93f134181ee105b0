-- The newest first, between a floor and a cursor. Filters that are NULL let everything through. Only one arm of
-- `looked` is ever walked: the one of the index that knows the state.
WITH looked (seq) AS (
    SELECT seq FROM deliveries INDEXED BY deliveries_due
    WHERE :state = 'pending' AND state = 'pending' AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM deliveries INDEXED BY deliveries_leased
    WHERE :state = 'leased' AND state = 'leased' AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM deliveries INDEXED BY deliveries_dead
    WHERE :state = 'dead' AND state = 'dead' AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM deliveries
    WHERE (:state IS NULL OR :state IN ('delivered', 'cancelled')) AND seq >= :floor AND seq < :older
), chosen (seq) AS (
    SELECT deliveries.seq FROM looked CROSS JOIN deliveries ON deliveries.seq = looked.seq
    WHERE (:state IS NULL OR deliveries.state = :state)
      AND (:destination IS NULL
           OR deliveries.destination_id = (SELECT id FROM destinations WHERE origin = :destination))
      AND (:id_prefix IS NULL OR substr(deliveries.id, 1, length(:id_prefix)) = :id_prefix)
      AND (:since IS NULL OR deliveries.created_at >= :since)
      AND (:until IS NULL OR deliveries.created_at < :until)
      AND (:outcome IS NULL OR :outcome = (
            SELECT outcome FROM attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq DESC LIMIT :limit
)
SELECT deliveries.seq, deliveries.id, deliveries.state, destinations.origin AS destination, deliveries.kind,
       deliveries.created_at, deliveries.due_at, deliveries.finished_at, deliveries.reason, deliveries.body_bytes,
       deliveries.attempts, last.number AS last_number, last.outcome AS last_outcome, last.status AS last_status
FROM chosen
JOIN deliveries ON deliveries.seq = chosen.seq
JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN attempts AS last ON last.seq = deliveries.seq
     AND last.number = (SELECT max(number) FROM attempts WHERE attempts.seq = deliveries.seq)
ORDER BY deliveries.seq DESC
