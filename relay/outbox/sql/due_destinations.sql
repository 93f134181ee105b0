-- The destinations that may be called and have something due, in id order between two ids, :room at the most, as a JSON
-- array of pairs: the id, and whether it is on probation (one delivery may probe). One seek per destination with anything
-- pending, so the cost does not grow with the backlog of any of them. IS NOT NULL skips those that wait in a stream.
WITH RECURSIVE ring (id) AS (
    SELECT min(destination_id) FROM deliveries
    WHERE state = 'pending' AND destination_id > :after AND destination_id <= :until
    UNION ALL
    SELECT (SELECT min(destination_id) FROM deliveries
            WHERE state = 'pending' AND destination_id > ring.id AND destination_id <= :until)
    FROM ring WHERE ring.id IS NOT NULL
)
SELECT json_group_array(json_array(id, on_probation)) FROM (
    SELECT ring.id AS id, destinations.open_until IS NOT NULL AS on_probation
    FROM ring JOIN destinations ON destinations.id = ring.id
    WHERE destinations.state = 'active' AND coalesce(destinations.open_until, 0) <= :now
      AND (SELECT min(due_at) FROM deliveries
           WHERE state = 'pending' AND destination_id = ring.id AND due_at IS NOT NULL) <= :now
    LIMIT :room
)
