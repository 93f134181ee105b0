-- Uploads that no job has named yet wait too: their bytes count against the bound of what may wait. From then on those of
-- the job do. What was uploaded before is not counted.
ALTER TABLE outspoken.uploads ADD COLUMN waits INTEGER NOT NULL DEFAULT 0 CHECK (waits IN (0, 1));
ALTER TABLE outspoken.uploads ALTER COLUMN waits SET DEFAULT 1;

CREATE FUNCTION outspoken.uploads_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outspoken.queues (key_id, queued, leased, bytes)
    SELECT key_id, 0, 0, sum(size) FROM added WHERE waits = 1 GROUP BY key_id ORDER BY key_id
    ON CONFLICT (key_id) DO UPDATE SET bytes = queues.bytes + excluded.bytes;
    RETURN NULL;
END
$$;

CREATE FUNCTION outspoken.uploads_named() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outspoken.count_jobs(json_agg(more)) FROM (
        SELECT key_id, 0 AS queued, 0 AS leased, sum(bytes) AS bytes FROM (
            SELECT key_id, size AS bytes FROM after WHERE waits = 1
            UNION ALL
            SELECT key_id, -size FROM before WHERE waits = 1
        ) AS each
        GROUP BY key_id HAVING sum(bytes) <> 0
    ) AS more HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION outspoken.uploads_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outspoken.count_jobs(json_agg(less)) FROM (
        SELECT key_id, 0 AS queued, 0 AS leased, -sum(size) AS bytes FROM before WHERE waits = 1 GROUP BY key_id
    ) AS less HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE TRIGGER added AFTER INSERT ON outspoken.uploads REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION outspoken.uploads_added();
CREATE TRIGGER named AFTER UPDATE ON outspoken.uploads REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION outspoken.uploads_named();
CREATE TRIGGER removed AFTER DELETE ON outspoken.uploads REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION outspoken.uploads_removed();
