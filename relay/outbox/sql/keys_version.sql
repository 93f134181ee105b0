-- Changes whenever another set of keys signs: one was added, or its time has come.
SELECT max(id), count(*), sum(retires_at IS NULL OR retires_at > :now) FROM signing_keys
