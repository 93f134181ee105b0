-- Claim the chosen jobs, given as a JSON array of seqs.
UPDATE jobs SET state = 'leased', lease_token = :token, lease_until = :until, started_at = coalesce(started_at, :now)
WHERE state = 'queued' AND seq IN (SELECT value FROM json_each(:seqs))
RETURNING seq, request, media, has_audio, crashes, lapses, created_at
