-- What can have an attempt next: what waits (the soonest first) or is being attempted, and how many it has had. Then
-- what tells of a gap: whether as many wait as were asked for, and the last replay. Numbers are given out before the
-- commit: one below the last may be under way still. So the last thousand count as new until they are older, and stand
-- in the mark, whatever their state.
WITH last AS (
    SELECT greatest(coalesce(max(seq), 0) - 1000, 0) AS seq FROM deliveries
)
SELECT coalesce(json_agg(json_build_array(seq, tried)), '[]') AS mark,
       (SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT :limit) AS waiting)
           >= CAST(:limit AS bigint) AS crowded,
       (SELECT coalesce(max(id), 0) FROM audit WHERE act = 'delivery.replay') AS replay,
       (SELECT seq FROM last) AS high_water
FROM (
    SELECT seq, attempts + lapses AS tried FROM deliveries WHERE state = 'leased'
    UNION
    SELECT * FROM (SELECT seq, attempts + lapses FROM deliveries
                   WHERE state = 'pending' ORDER BY due_at LIMIT :limit) AS waiting
    UNION
    SELECT seq, attempts + lapses FROM deliveries WHERE seq > (SELECT seq FROM last)
) AS watched
