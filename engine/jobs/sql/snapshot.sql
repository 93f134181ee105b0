-- The gauges, each from a partial index and never over finished jobs.
SELECT
    (SELECT count(*) FROM jobs WHERE state = 'queued') AS queued,
    (SELECT count(*) FROM jobs WHERE state = 'leased') AS leased,
    (SELECT min(due_at) FROM jobs WHERE state = 'queued') AS oldest_due_at
