-- The oldest uploads that were kept long enough, :slice at the most. Jobs made of them have copies of their own.
DELETE FROM uploads
WHERE id = ANY(ARRAY(
    SELECT id FROM uploads WHERE created_at <= :before ORDER BY created_at LIMIT :slice FOR UPDATE SKIP LOCKED))
RETURNING id
