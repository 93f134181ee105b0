-- Claim the chosen jobs, given as a JSON array of seqs. They were held by the statements that chose them.
UPDATE jobs SET state = 'leased', lease_token = :token, lease_until = :until, started_at = coalesce(started_at, :now)
WHERE state = 'queued'
  AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))
RETURNING seq, request, media, has_audio, crashes, lapses, created_at
