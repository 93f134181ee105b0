-- What can have an attempt next: what waits (the soonest first) or is being attempted, and how many it has had. Then
-- what tells of a gap: whether as many wait as were asked for, and the last replay.
SELECT json_group_array(json_array(seq, tried)) AS mark,
       (SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT :limit)) >= :limit AS crowded,
       (SELECT coalesce(max(id), 0) FROM audit WHERE act = 'delivery.replay') AS replay,
       (SELECT coalesce(max(seq), 0) FROM deliveries) AS high_water
FROM (
    SELECT seq, attempts + lapses AS tried FROM deliveries WHERE state = 'leased'
    UNION ALL
    SELECT * FROM (SELECT seq, attempts + lapses AS tried FROM deliveries
                   WHERE state = 'pending' ORDER BY due_at LIMIT :limit)
)
