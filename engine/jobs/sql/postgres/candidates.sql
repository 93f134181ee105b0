-- The first :room due jobs of each key in a JSON array: one seek a key. Their owner may be deleting one this moment.
SELECT head.key_id, head.seq
FROM json_array_elements_text(CAST(:keys AS json)) AS wanted CROSS JOIN LATERAL (
    SELECT key_id, seq, due_at FROM jobs
    WHERE state = 'queued' AND lapses < 2 AND key_id = wanted.value AND due_at <= :now
    ORDER BY due_at, seq LIMIT :room FOR UPDATE SKIP LOCKED
) AS head
ORDER BY head.key_id, head.due_at, head.seq
