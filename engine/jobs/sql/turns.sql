-- The keys whose turn it is, :room at the most, the one served longest ago first, each with the number of jobs that it
-- may start now (NULL: any). One seek a key with anything queued, however long its queue is.
SELECT queues.key_id, api_keys.max_running - queues.leased
FROM queues LEFT JOIN api_keys ON api_keys.id = queues.key_id
WHERE queues.queued > 0 AND queues.leased < coalesce(api_keys.max_running, 9223372036854775807)
  AND (SELECT min(due_at) FROM jobs WHERE state = 'queued' AND lapses < 2 AND key_id = queues.key_id) <= :now
ORDER BY queues.served, queues.key_id LIMIT :room
