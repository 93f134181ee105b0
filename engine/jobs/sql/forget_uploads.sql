-- The oldest uploads that were kept long enough, :slice at the most. Jobs made of them have links of their own.
DELETE FROM uploads
WHERE id IN (SELECT id FROM uploads WHERE created_at <= :before ORDER BY created_at LIMIT :slice)
RETURNING id
