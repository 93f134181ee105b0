-- The newest first, between a floor and a cursor. Filters that are NULL let everything through. What is looked at is
-- looked for apart: by the index that knows the state where that has less to offer than the key. In the order of the
-- key, with a limit, a few dead letters of long ago would be sought through all that was delivered since.
WITH looked AS MATERIALIZED (
    SELECT seq FROM deliveries
    WHERE (CAST(:state AS text) IS NULL OR state = :state) AND seq >= :floor AND seq < :older
), chosen AS (
    SELECT deliveries.seq FROM looked JOIN deliveries ON deliveries.seq = looked.seq
    WHERE (CAST(:destination AS text) IS NULL
           OR deliveries.destination_id = (SELECT id FROM destinations WHERE origin = :destination))
      AND (CAST(:id_prefix AS text) IS NULL OR starts_with(deliveries.id, :id_prefix))
      AND (CAST(:since AS double precision) IS NULL OR deliveries.created_at >= :since)
      AND (CAST(:until AS double precision) IS NULL OR deliveries.created_at < :until)
      AND (CAST(:outcome AS text) IS NULL OR :outcome = (
            SELECT outcome FROM attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq DESC LIMIT :limit
)
SELECT deliveries.seq, deliveries.id, deliveries.state, destinations.origin AS destination, deliveries.kind,
       deliveries.created_at, deliveries.due_at, deliveries.finished_at, deliveries.reason, deliveries.body_bytes,
       deliveries.attempts, last.number AS last_number, last.outcome AS last_outcome, last.status AS last_status
FROM chosen
JOIN deliveries ON deliveries.seq = chosen.seq
JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN LATERAL (
    SELECT number, outcome, status FROM attempts WHERE attempts.seq = chosen.seq ORDER BY number DESC LIMIT 1
) AS last ON true
ORDER BY deliveries.seq DESC
