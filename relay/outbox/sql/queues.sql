-- What waits for each destination, and how much of it is due. One pass over the partial index of what is pending.
SELECT destinations.id, origin, count(*) AS waiting, count(*) FILTER (WHERE due_at <= :now) AS ready,
       min(due_at) AS oldest_due_at
FROM deliveries INDEXED BY deliveries_due JOIN destinations ON destinations.id = destination_id
WHERE deliveries.state = 'pending' GROUP BY destination_id
