-- Destinations with something due, from :after on: one index seek for each that has anything pending, however much. One
-- on probation is held until the claim is committed, and passed over while another relay holds it: two may not probe.
WITH RECURSIVE ring (id) AS (
    SELECT min(destination_id) FROM deliveries
    WHERE state = 'pending' AND destination_id > :after AND destination_id <= :until
    UNION ALL
    SELECT (SELECT min(destination_id) FROM deliveries
            WHERE state = 'pending' AND destination_id > ring.id AND destination_id <= :until)
    FROM ring WHERE ring.id IS NOT NULL
), due AS (
    SELECT ring.id AS id, destinations.open_until IS NOT NULL AS on_probation
    FROM ring JOIN destinations ON destinations.id = ring.id
    WHERE destinations.state = 'active' AND coalesce(destinations.open_until, 0) <= :now
      AND (SELECT min(due_at) FROM deliveries WHERE state = 'pending' AND destination_id = ring.id) <= :now
    LIMIT :room
), probes AS (
    SELECT id FROM destinations
    WHERE id IN (SELECT id FROM due WHERE on_probation) AND open_until <= :now
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT coalesce(json_agg(json_build_array(id, on_probation) ORDER BY id), '[]') FROM due
WHERE NOT on_probation OR id IN (SELECT id FROM probes)
