-- The oldest results that were kept long enough, :slice at the most. Another engine may be at it too.
DELETE FROM results
WHERE seq = ANY(ARRAY(
    SELECT seq FROM results WHERE ended_at <= :before ORDER BY ended_at LIMIT :slice FOR UPDATE SKIP LOCKED))
RETURNING seq
