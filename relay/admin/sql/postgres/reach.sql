-- How far back a page may look: the last of at most :effort deliveries before the cursor, by the index that knows the
-- state, or by the key where none does. No row: it may look to the end.
WITH known AS MATERIALIZED (
    SELECT seq FROM deliveries
    WHERE :state IN ('pending', 'leased', 'dead') AND state = :state AND seq >= :floor AND seq < :older
), others AS (
    SELECT seq FROM deliveries
    WHERE coalesce(CAST(:state AS text), 'delivered') IN ('delivered', 'cancelled') AND seq >= :floor AND seq < :older
    ORDER BY seq DESC LIMIT :effort
)
SELECT seq FROM (SELECT seq FROM known UNION ALL SELECT seq FROM others) AS looked
ORDER BY seq DESC LIMIT 1 OFFSET CAST(:effort AS bigint) - 1
