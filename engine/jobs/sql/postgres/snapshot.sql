-- The gauges: counts from one row a key, and the oldest from a partial index.
SELECT CAST(coalesce(sum(queued), 0) AS bigint), CAST(coalesce(sum(leased), 0) AS bigint),
       CAST(coalesce(sum(bytes), 0) AS bigint), (SELECT min(due_at) FROM jobs WHERE state = 'queued')
FROM queues
