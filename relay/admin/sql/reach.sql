-- How far back a page may look: the last of at most :effort deliveries before the cursor, by the index that knows the
-- state (a partial index needs the literal), or by the key where none does. No row: it may look to the end.
SELECT seq FROM (
    SELECT * FROM (SELECT seq FROM deliveries INDEXED BY deliveries_due
                   WHERE :state = 'pending' AND state = 'pending' AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM deliveries INDEXED BY deliveries_leased
                   WHERE :state = 'leased' AND state = 'leased' AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM deliveries INDEXED BY deliveries_dead
                   WHERE :state = 'dead' AND state = 'dead' AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM deliveries
                   WHERE (:state IS NULL OR :state IN ('delivered', 'cancelled')) AND seq >= :floor AND seq < :older
                   ORDER BY seq DESC LIMIT :effort)
) ORDER BY seq DESC LIMIT 1 OFFSET :effort - 1
