-- The same of finished jobs, after their results, which refer to them.
DELETE FROM jobs
WHERE seq = ANY(ARRAY(
        SELECT seq FROM jobs WHERE finished_at <= :before ORDER BY finished_at LIMIT :slice FOR UPDATE SKIP LOCKED))
  AND NOT EXISTS (SELECT 1 FROM results WHERE results.seq = jobs.seq)
RETURNING id
