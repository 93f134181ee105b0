-- Ended, and every request of it came to its end.
UPDATE streams SET state = 'closed', finished_at = :now
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND transport = 'http' AND state = 'ended'
  AND NOT EXISTS (SELECT 1 FROM deliveries
                  WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased'))
