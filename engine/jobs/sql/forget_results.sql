-- The oldest results that were kept long enough, :slice at the most.
DELETE FROM results
WHERE seq IN (SELECT seq FROM results WHERE ended_at <= :before ORDER BY ended_at LIMIT :slice)
RETURNING seq
