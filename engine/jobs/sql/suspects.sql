-- Whether any suspect waits.
SELECT 1 FROM jobs WHERE state = 'queued' AND lapses >= 2 AND due_at <= :now LIMIT 1
