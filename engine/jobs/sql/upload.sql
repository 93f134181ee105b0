-- One upload, for whoever sent it; :key_id NULL is whoever asks where no key is required.
SELECT id, key_id, filename, extension, size, sha256, duration, channels, created_at
FROM uploads WHERE id = :id AND key_id = coalesce(:key_id, key_id)
