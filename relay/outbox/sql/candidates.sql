-- The first :cap due deliveries of each destination in a JSON array of ids: one JSON object, under each id the seqs. A
-- window function or NOT IN would read the whole backlog; this seeks once per destination (SQLite takes no per-row LIMIT,
-- hence one cap for all), and reads nothing but the index.
SELECT json_group_object(wanted.value, (
    SELECT json_group_array(seq) FROM (
        SELECT seq FROM deliveries
        WHERE state = 'pending' AND destination_id = wanted.value AND due_at <= :now AND due_at IS NOT NULL
        ORDER BY due_at, seq LIMIT :cap
    )
))
FROM json_each(:destinations) AS wanted
