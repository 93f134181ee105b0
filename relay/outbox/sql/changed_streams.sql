-- Of the streams in a JSON array of ids, those that are no longer simply open under this holder.
SELECT id, state = 'ended' AND holder = :holder AS ended, producer_until IS NOT NULL AS abandoned
FROM streams
WHERE id IN (SELECT value FROM json_each(:ids)) AND (state <> 'open' OR holder IS NOT :holder)
