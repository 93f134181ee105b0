-- What changes whenever what signs does.
SELECT max(id), count(*), count(*) FILTER (WHERE retires_at IS NULL OR retires_at > :now) FROM signing_keys
