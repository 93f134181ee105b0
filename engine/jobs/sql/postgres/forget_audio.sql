-- Finished jobs whose audio was kept long enough, :slice at the most. Another engine may be at it too.
UPDATE jobs SET audio_kept = 0
WHERE seq = ANY(ARRAY(
    SELECT seq FROM jobs WHERE audio_kept = 1 AND finished_at <= :before
    ORDER BY finished_at LIMIT :slice FOR UPDATE SKIP LOCKED))
RETURNING id
