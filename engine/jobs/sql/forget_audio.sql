-- Finished jobs whose audio was kept long enough, :slice at the most.
UPDATE jobs SET audio_kept = 0
WHERE seq IN (SELECT seq FROM jobs WHERE audio_kept = 1 AND finished_at <= :before ORDER BY finished_at LIMIT :slice)
RETURNING id
