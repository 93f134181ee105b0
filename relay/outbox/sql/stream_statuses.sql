-- How some streams stand, given as a JSON array of keys. A socket whose holder is overdue is gone with it, although nobody
-- may have been there yet to write that down.
SELECT key, iif(holder_until <= :now, 'killed', state) AS state, iif(holder_until <= :now, 'relay_gone', reason) AS reason,
       (SELECT count(*) FROM deliveries INDEXED BY deliveries_stream
        WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased')) AS undelivered,
       holder
FROM streams WHERE key IN (SELECT value FROM json_each(:keys))
