-- Whether any suspect waits. If so, whoever asks is the only engine to choose one until its transaction ends.
SELECT pg_advisory_xact_lock(7202612) FROM jobs WHERE state = 'queued' AND lapses >= 2 AND due_at <= :now LIMIT 1
