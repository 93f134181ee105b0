-- One accepted request, due at once. Its audio is on the disk already, or behind its URL.
INSERT INTO jobs (id, request, media, has_audio, created_at, due_at, key_id, dialect, bytes, audio_kept)
VALUES (:id, :request, :media, :has_audio, :now, :now, :key_id, :dialect, :bytes, :audio_kept)
