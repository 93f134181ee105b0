-- The destinations with something due, in id order between two ids, :room at the most. One seek per destination
-- with anything pending, so the cost does not grow with the backlog of any of them.
WITH RECURSIVE ring (id) AS (
    SELECT min(destination_id) FROM deliveries
    WHERE state = 'pending' AND destination_id > :after AND destination_id <= :until
    UNION ALL
    SELECT (SELECT min(destination_id) FROM deliveries
            WHERE state = 'pending' AND destination_id > ring.id AND destination_id <= :until)
    FROM ring WHERE ring.id IS NOT NULL
)
SELECT ring.id FROM ring
WHERE ring.id IS NOT NULL
  AND (SELECT min(due_at) FROM deliveries WHERE state = 'pending' AND destination_id = ring.id) <= :now
LIMIT :room
