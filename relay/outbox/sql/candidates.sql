-- The first :cap due deliveries of each destination in a JSON array of ids. A window function or NOT IN would read
-- the whole backlog; this seeks once per destination (SQLite takes no per-row LIMIT, hence one cap for all).
SELECT deliveries.destination_id, deliveries.seq
FROM json_each(:destinations) AS wanted CROSS JOIN deliveries
WHERE deliveries.seq IN (
    SELECT seq FROM deliveries
    WHERE state = 'pending' AND destination_id = wanted.value AND due_at <= :now AND due_at IS NOT NULL
    ORDER BY due_at, seq LIMIT :cap
)
ORDER BY deliveries.destination_id, deliveries.due_at, deliveries.seq
