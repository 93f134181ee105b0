-- What can have an attempt next: what waits (the soonest first) or is being attempted, and how many it has had.
SELECT json_group_array(json_array(seq, tried)) FROM (
    SELECT seq, attempts + lapses AS tried FROM deliveries WHERE state = 'leased'
    UNION ALL
    SELECT * FROM (SELECT seq, attempts + lapses AS tried FROM deliveries
                   WHERE state = 'pending' ORDER BY due_at LIMIT :limit)
)
