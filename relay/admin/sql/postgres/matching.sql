-- What a bulk act would touch, oldest first, with all that decides whether it may. No limit is -1.
WITH looked AS MATERIALIZED (
    SELECT seq FROM deliveries WHERE state = :state AND seq >= :floor AND seq < :older
), chosen AS (
    SELECT deliveries.seq FROM looked JOIN deliveries ON deliveries.seq = looked.seq
    WHERE (CAST(:destination AS text) IS NULL
           OR deliveries.destination_id = (SELECT id FROM destinations WHERE origin = :destination))
      AND (CAST(:id_prefix AS text) IS NULL OR starts_with(deliveries.id, :id_prefix))
      AND (CAST(:since AS double precision) IS NULL OR deliveries.created_at >= :since)
      AND (CAST(:until AS double precision) IS NULL OR deliveries.created_at < :until)
      AND (CAST(:outcome AS text) IS NULL OR :outcome = (
            SELECT outcome FROM attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq LIMIT nullif(CAST(:limit AS bigint), -1)
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
