-- Audio whose file lies in the folder already.
INSERT INTO uploads (id, key_id, filename, extension, size, sha256, duration, channels, created_at)
VALUES (:id, :key_id, :filename, :extension, :size, :sha256, :duration, :channels, :created_at)
