-- What the last attempts of one destination came to: of what waits (retries are due last) and of what was given up of
-- late. Bounded, however much waits: each arm looks at :effort index entries.
WITH tried (seq, number) AS (
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses FROM deliveries
        WHERE state = 'pending' AND destination_id = :destination_id AND due_at IS NOT NULL
        ORDER BY due_at DESC LIMIT :effort) AS waiting
    WHERE attempts + lapses > 0
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, destination_id FROM deliveries
        WHERE state = 'dead' ORDER BY finished_at DESC LIMIT :effort) AS given_up
    WHERE destination_id = :destination_id AND attempts + lapses > 0
)
SELECT attempts.started_at, attempts.outcome, attempts.status, attempts.detail, attempts.answer_headers,
       deliveries.id, deliveries.body_bytes
FROM tried
JOIN deliveries ON deliveries.seq = tried.seq
CROSS JOIN LATERAL (
    SELECT * FROM attempts WHERE attempts.seq = tried.seq ORDER BY number DESC LIMIT 1
) AS attempts
ORDER BY attempts.started_at DESC LIMIT :limit
