-- Keeps the counts of the queues: see the table.
CREATE FUNCTION outspoken.jobs_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outspoken.queues (key_id, queued, leased, bytes)
    SELECT key_id, count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'leased'), sum(bytes)
    FROM added WHERE state IN ('queued', 'leased') GROUP BY key_id ORDER BY key_id
    ON CONFLICT (key_id) DO UPDATE
    SET queued = queues.queued + excluded.queued, leased = queues.leased + excluded.leased,
        bytes = queues.bytes + excluded.bytes;
    RETURN NULL;
END
$$;

-- Once a statement, however many jobs it changed, and in the order of the keys, so that no two engines wait for each
-- other: locked first, and counted by a statement that sees what was committed meanwhile.
CREATE FUNCTION outspoken.count_jobs(counted JSON) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM outspoken.queues WHERE key_id IN (SELECT one ->> 'key_id' FROM json_array_elements(counted) AS one)
    ORDER BY key_id FOR NO KEY UPDATE;
    UPDATE outspoken.queues
    SET queued = queues.queued + more.queued, leased = queues.leased + more.leased, bytes = queues.bytes + more.bytes
    FROM json_to_recordset(counted) AS more (key_id TEXT, queued BIGINT, leased BIGINT, bytes BIGINT)
    WHERE queues.key_id = more.key_id;
END
$$;

CREATE FUNCTION outspoken.jobs_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outspoken.count_jobs(json_agg(more)) FROM (
        SELECT key_id, sum(queued) AS queued, sum(leased) AS leased, sum(bytes) AS bytes FROM (
            SELECT key_id, CAST(state = 'queued' AS INTEGER) AS queued, CAST(state = 'leased' AS INTEGER) AS leased, bytes
            FROM after WHERE state IN ('queued', 'leased')
            UNION ALL
            SELECT key_id, -CAST(state = 'queued' AS INTEGER), -CAST(state = 'leased' AS INTEGER), -bytes
            FROM before WHERE state IN ('queued', 'leased')
        ) AS each
        GROUP BY key_id HAVING sum(queued) <> 0 OR sum(leased) <> 0 OR sum(bytes) <> 0
    ) AS more HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION outspoken.jobs_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outspoken.count_jobs(json_agg(less)) FROM (
        SELECT key_id, -count(*) FILTER (WHERE state = 'queued') AS queued,
               -count(*) FILTER (WHERE state = 'leased') AS leased, -sum(bytes) AS bytes
        FROM before WHERE state IN ('queued', 'leased') GROUP BY key_id
    ) AS less HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE TRIGGER added AFTER INSERT ON outspoken.jobs REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION outspoken.jobs_added();
CREATE TRIGGER changed AFTER UPDATE ON outspoken.jobs REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION outspoken.jobs_changed();
CREATE TRIGGER removed AFTER DELETE ON outspoken.jobs REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION outspoken.jobs_removed();
