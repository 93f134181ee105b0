-- A live session that has ended, as history: it was heard while it lasted, and no file was ever made of its audio.
INSERT INTO jobs (id, request, media, has_audio, created_at, due_at, state, started_at, finished_at, error_code, key_id,
                  dialect, bytes, duration)
VALUES (:id, :request, :media, 1, :created_at, :created_at, :state, :started_at, :now, :error_code, :key_id,
        :dialect, :bytes, :duration)
RETURNING seq
