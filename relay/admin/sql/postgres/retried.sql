-- How many of what waits was tried before, by destination. Retries are due last: the last :effort of the queue will do.
SELECT destinations.origin, count(*) AS retried
FROM (SELECT destination_id, attempts FROM deliveries
      WHERE state = 'pending' AND due_at IS NOT NULL ORDER BY due_at DESC LIMIT :effort) AS waiting
JOIN destinations ON destinations.id = waiting.destination_id
WHERE waiting.attempts > 0 GROUP BY destinations.id
