-- The processes that live streams end with: those that hold their sockets, and those that promised to end them.
SELECT holder AS name FROM streams INDEXED BY streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND holder IS NOT NULL
UNION
SELECT producer FROM streams INDEXED BY streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND state = 'open' AND producer_until IS NOT NULL AND producer IS NOT NULL
