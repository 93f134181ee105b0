-- What the last attempts of one destination came to: of what waits (retries are due last) and of what was given up of
-- late. Bounded, however much waits: each arm looks at :effort index entries.
WITH tried (seq, number) AS (
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses FROM deliveries INDEXED BY deliveries_due
        WHERE state = 'pending' AND destination_id = :destination_id ORDER BY due_at DESC LIMIT :effort)
    WHERE attempts + lapses > 0
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, destination_id FROM deliveries INDEXED BY deliveries_dead
        WHERE state = 'dead' ORDER BY finished_at DESC LIMIT :effort)
    WHERE destination_id = :destination_id AND attempts + lapses > 0
)
SELECT attempts.started_at, attempts.outcome, attempts.status, attempts.detail, attempts.answer_headers,
       deliveries.id, deliveries.body_bytes
FROM tried
JOIN deliveries ON deliveries.seq = tried.seq
JOIN attempts ON attempts.seq = tried.seq
     AND attempts.number = (SELECT max(number) FROM attempts WHERE attempts.seq = tried.seq)
ORDER BY attempts.started_at DESC LIMIT :limit
