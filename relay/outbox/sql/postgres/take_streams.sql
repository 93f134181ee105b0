-- Sockets that nobody holds; what another relay is about to take is left to it.
UPDATE streams SET holder = :holder, holder_until = :until
WHERE id = ANY(ARRAY(
    SELECT id FROM streams
    WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
      AND transport = 'ws' AND holder IS NULL
    ORDER BY id LIMIT :room FOR UPDATE SKIP LOCKED))
RETURNING id, key, url, headers
