-- Where one delivery stands, and how its last attempt that is still kept went.
SELECT deliveries.state, deliveries.attempts, deliveries.due_at, deliveries.finished_at, deliveries.reason,
       last.status, last.outcome
FROM deliveries
LEFT JOIN attempts AS last ON last.seq = deliveries.seq
     AND last.number = (SELECT max(number) FROM attempts WHERE attempts.seq = deliveries.seq)
WHERE deliveries.id = :id
