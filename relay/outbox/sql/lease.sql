-- Claim the chosen deliveries, given as a JSON array of seqs.
UPDATE deliveries SET state = 'leased', lease_token = :token, lease_until = :until
WHERE state = 'pending' AND seq IN (SELECT value FROM json_each(:seqs))
RETURNING seq, id, destination_id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at,
          due_at, attempts, lapses, schedule, stream_id, position, pointer, scheduled_from
