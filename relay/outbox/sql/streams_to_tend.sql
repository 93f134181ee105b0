-- Whether some stream waits for a holder, and whether some other has come to an end that nobody has written down: its
-- producer or its holder is overdue, or the last of its requests was answered.
SELECT max(transport = 'ws' AND holder IS NULL) AS waiting,
       max(coalesce(holder_until <= :now, 0)
           OR state = 'open' AND coalesce(producer_until <= :now, 0)
           OR transport = 'http' AND state = 'ended' AND NOT EXISTS (
              SELECT 1 FROM deliveries INDEXED BY deliveries_stream
              WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased'))) AS overdue
FROM streams INDEXED BY streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
