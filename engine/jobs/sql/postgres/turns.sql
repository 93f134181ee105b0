-- The keys whose turn it is, :room at the most, the one served longest ago first, each with the number of jobs that it
-- may start now (NULL: any). Their rows, and those of the suspects' keys, are held until the lease is committed, and
-- judged as they are then: that is how a key's bound holds over all engines. Held in the order of the keys, so that no
-- two engines wait for each other.
WITH chosen AS (
    SELECT queues.key_id FROM queues LEFT JOIN api_keys ON api_keys.id = queues.key_id
    WHERE queues.queued > 0 AND queues.leased < coalesce(api_keys.max_running, 9223372036854775807)
      AND (SELECT min(due_at) FROM jobs WHERE state = 'queued' AND lapses < 2 AND key_id = queues.key_id) <= :now
    ORDER BY queues.served, queues.key_id LIMIT :room
), held AS MATERIALIZED (
    SELECT key_id, leased, served FROM queues
    WHERE key_id IN (SELECT key_id FROM chosen)
       OR key_id IN (SELECT key_id FROM jobs WHERE seq = ANY(ARRAY(
              SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:suspects AS json)))))
    ORDER BY key_id FOR NO KEY UPDATE
)
SELECT held.key_id, api_keys.max_running - held.leased
FROM held JOIN chosen ON chosen.key_id = held.key_id LEFT JOIN api_keys ON api_keys.id = held.key_id
WHERE held.leased < coalesce(api_keys.max_running, 9223372036854775807)
ORDER BY held.served, held.key_id
