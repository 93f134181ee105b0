-- What is pending, destination by destination.
SELECT destinations.id, origin, count(*) AS waiting, count(*) FILTER (WHERE due_at <= :now) AS ready,
       min(due_at) AS oldest_due_at
FROM deliveries JOIN destinations ON destinations.id = destination_id
WHERE deliveries.state = 'pending' GROUP BY destinations.id, origin
