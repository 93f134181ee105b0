-- The gauges: counts from one row a key, and the oldest from a partial index.
SELECT coalesce(sum(queued), 0), coalesce(sum(leased), 0), coalesce(sum(bytes), 0),
       (SELECT min(due_at) FROM jobs WHERE state = 'queued')
FROM queues
