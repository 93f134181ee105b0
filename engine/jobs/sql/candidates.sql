-- The first :room due jobs of each key in a JSON array. A window function would read whole queues; this seeks once a key.
SELECT jobs.key_id, jobs.seq
FROM json_each(:keys) AS wanted CROSS JOIN jobs
WHERE jobs.seq IN (
    SELECT seq FROM jobs
    WHERE state = 'queued' AND lapses < 2 AND key_id = wanted.value AND due_at <= :now
    ORDER BY due_at, seq LIMIT :room
)
ORDER BY jobs.key_id, jobs.due_at, jobs.seq
