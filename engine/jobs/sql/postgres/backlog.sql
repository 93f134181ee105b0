-- What a bound goes by: jobs that wait and bytes of audio in all, and jobs that wait of one key with its own bound.
SELECT CAST(coalesce(sum(queued), 0) AS bigint), CAST(coalesce(sum(bytes), 0) AS bigint),
       coalesce((SELECT queued FROM queues WHERE key_id = :key_id), 0),
       (SELECT max_queued FROM api_keys WHERE id = :key_id)
FROM queues
