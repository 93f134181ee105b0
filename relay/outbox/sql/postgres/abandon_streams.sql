-- Their producer is overdue. It keeps its producer_until: that tells it from one that ended its stream.
UPDATE streams SET state = 'ended'
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND state = 'open' AND producer_until <= :now
