-- Hold the sockets of some streams that nobody holds: the oldest first.
UPDATE streams SET holder = :holder, holder_until = :until
WHERE id IN (SELECT id FROM streams INDEXED BY streams_live
             WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
               AND transport = 'ws' AND holder IS NULL
             ORDER BY id LIMIT :room)
RETURNING id, key, url, headers
