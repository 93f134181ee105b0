-- Whether there is a stream for somebody to hold, and one for somebody to end.
SELECT coalesce(bool_or(transport = 'ws' AND holder IS NULL), false) AS waiting,
       coalesce(bool_or(coalesce(holder_until <= :now, false)
           OR state = 'open' AND coalesce(producer_until <= :now, false)
           OR transport = 'http' AND state = 'ended' AND NOT EXISTS (
              SELECT 1 FROM deliveries
              WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased'))), false) AS overdue
FROM streams
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
