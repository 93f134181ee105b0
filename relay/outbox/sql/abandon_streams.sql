-- Their producer is overdue, or among those (a JSON array) that are known to be gone. It keeps its producer_until: that
-- tells it from one that ended its stream.
UPDATE streams INDEXED BY streams_live SET state = 'ended'
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND state = 'open' AND producer_until IS NOT NULL
  AND (producer_until <= :now OR producer IN (SELECT value FROM json_each(:gone)))
