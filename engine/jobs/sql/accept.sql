-- One accepted request, due at once. Its audio is on the disk already.
INSERT INTO jobs (id, request, media, created_at, due_at) VALUES (:id, :request, :media, :now, :now)
