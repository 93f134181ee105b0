-- How some streams stand, given as a JSON array of keys. A socket whose holder is overdue is gone with it, although nobody
-- may have been there yet to write that down.
SELECT key, CASE WHEN holder_until <= :now THEN 'killed' ELSE state END AS state,
       CASE WHEN holder_until <= :now THEN 'relay_gone' ELSE reason END AS reason,
       (SELECT count(*) FROM deliveries
        WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased')) AS undelivered,
       holder
FROM streams WHERE key = ANY(ARRAY(SELECT value FROM json_array_elements_text(CAST(:keys AS json))))
