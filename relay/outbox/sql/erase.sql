-- The body of a delivery that nobody will attempt any more.
DELETE FROM bodies
WHERE seq = (SELECT seq FROM deliveries WHERE id = :id AND state IN ('delivered', 'dead', 'cancelled'))
