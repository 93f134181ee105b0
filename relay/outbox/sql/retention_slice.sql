-- The next rows in the order in which they were added, and what is left of each. No index on finished_at: it would be
-- paid for at every settlement, and this walk happens when there is nothing better to do.
SELECT deliveries.seq, state, created_at, finished_at, body_bytes, bodies.seq IS NOT NULL AS body,
       EXISTS (SELECT 1 FROM attempts WHERE attempts.seq = deliveries.seq) AS attempts
FROM deliveries LEFT JOIN bodies ON bodies.seq = deliveries.seq
WHERE deliveries.seq > :after ORDER BY deliveries.seq LIMIT :slice
