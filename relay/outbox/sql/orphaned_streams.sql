-- Their holder is overdue, or among those (a JSON array) that are known to be gone, and their socket is gone with it.
SELECT id, key, holder FROM streams INDEXED BY streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND holder IS NOT NULL AND (holder_until <= :now OR holder IN (SELECT value FROM json_each(:gone)))
