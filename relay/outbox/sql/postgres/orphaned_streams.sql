-- Their holder is overdue, and their socket is gone with it.
SELECT id, key, holder FROM streams
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND holder_until <= :now
