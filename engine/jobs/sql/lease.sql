-- The oldest due jobs, :room at the most.
UPDATE jobs SET state = 'leased', lease_token = :token, lease_until = :until
WHERE seq IN (SELECT seq FROM jobs WHERE state = 'queued' AND due_at <= :now ORDER BY due_at, seq LIMIT :room)
RETURNING seq, request, media, has_audio, crashes, created_at
