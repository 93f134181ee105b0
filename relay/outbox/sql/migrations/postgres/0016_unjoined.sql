-- What a batch costs the server.

-- A body is written in the transaction that has just added its delivery, and forgotten before it: to look the delivery up
-- once more for each, and to lock it, was a fifth of what adding a batch took.
ALTER TABLE outspoken.bodies DROP CONSTRAINT bodies_seq_fkey;

-- Adds all of a batch, or nothing: then the answer is no. Not only what is wrong, what is unusual is left to `add_each` too.
-- Bodies come one by one, or one behind the other in `whole`, each of so many bytes (`sizes`) from `starts`. Each row has its
-- number before any is written: bodies and tags would be joined to the deliveries each with each, as nothing is known of how
-- many there are.
CREATE OR REPLACE FUNCTION outspoken.add_plain(
    ids TEXT[], urls TEXT[], bodies BYTEA[], methods TEXT[], kinds TEXT[], content_types TEXT[], headers TEXT[],
    traceparents TEXT[], schedules TEXT[], due_ats DOUBLE PRECISION[], idempotency_keys TEXT[], tags TEXT[],
    tracked BOOLEAN[], owners TEXT[], priorities INTEGER[], starts INTEGER[], sizes INTEGER[], whole BYTEA
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now     CONSTANT DOUBLE PRECISION := extract(epoch FROM clock_timestamp());
    numbers CONSTANT REGCLASS := pg_get_serial_sequence('outspoken.deliveries', 'seq');
    count   INTEGER;
BEGIN
    WITH given AS MATERIALIZED (
        SELECT nextval(numbers) AS seq, it.id, it.url, it.body,
               split_part(it.url, '/', 1) || '//' || split_part(it.url, '/', 3) AS beginning,
               it.start, coalesce(it.size, length(it.body)) AS size,
               coalesce(it.method, 'POST') AS method, coalesce(it.kind, 'final') AS kind,
               coalesce(it.content_type, 'application/json') AS content_type, coalesce(it.headers, '{}') AS headers,
               it.traceparent, it.schedule, it.due_at, it.key, CAST(it.tags AS JSON) AS tags,
               coalesce(it.tracked, FALSE) AS tracked, coalesce(it.owner, '') AS owner,
               coalesce(it.priority, 0) AS priority
        FROM unnest(ids, urls, bodies, methods, kinds, content_types, headers, traceparents, schedules, due_ats,
                    idempotency_keys, tags, tracked, owners, priorities, starts, sizes)
             AS it (id, url, body, method, kind, content_type, headers, traceparent, schedule, due_at, key, tags, tracked,
                    owner, priority, start, size)
    ), destinations AS MATERIALIZED (
        SELECT one.beginning, place.origin
        FROM (SELECT DISTINCT each.beginning FROM given AS each) AS one,
             LATERAL outspoken.read(one.beginning || '/') AS place
        WHERE place.origin LIKE 'http%'
    ), plain AS MATERIALIZED (
        SELECT given.*, destinations.origin
        FROM given JOIN destinations ON destinations.beginning = given.beginning
        WHERE length(id) <= 256 AND id ~ '^[!-~]+$' COLLATE "C"
          AND length(url) <= 4096 AND url ~ '^[A-Za-z]+://[^/?#@\\]*([/?#][!-?A-\[\]-~]*)?$' COLLATE "C"
          AND size IS NOT NULL AND method IN ('POST', 'PUT') AND kind IN ('final', 'partial', 'error')
          AND (content_type = 'application/json'
               OR content_type ~ '^[!#$%&''*+.^_`|~0-9A-Za-z-]+/[!#$%&''*+.^_`|~0-9A-Za-z-]+ *(;[\x09\x20-\x7e]*)?$')
          AND (traceparent IS NULL
               OR traceparent ~ '^([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?)?$')
          AND (schedule IS NULL OR schedule IN ('fixed', 'exponential'))
          AND (due_at IS NULL OR due_at BETWEEN 0 AND 253402300799)
          AND (key IS NULL OR length(key) BETWEEN 1 AND 256 AND key !~ '[\x01-\x1f\x7f]')
          AND length(owner) <= 128 AND priority BETWEEN -100 AND 100
          AND CASE WHEN headers = '{}' THEN TRUE
              ELSE outspoken.flaw_of(CAST(headers AS JSON)) IS NULL
                   AND outspoken.flaw_of_overlap(CAST(headers AS JSON), url, traced => TRUE) IS NULL END
          AND CASE WHEN given.tags IS NULL THEN TRUE
              ELSE outspoken.flaw_of(ARRAY(SELECT json_array_elements_text(given.tags))) IS NULL END
    ), added AS (
        INSERT INTO outspoken.deliveries
            (seq, id, owner, origin, path, url, method, kind, priority, content_type, headers, traceparent, body_bytes,
             created_at, due_at, lane, scheduled_from, schedule, idempotency_key, tracked)
        SELECT seq, id, owner, origin, outspoken.path_of(url), url, method, kind, priority, content_type, CAST(headers AS JSON),
               traceparent, size, now, greatest(now, due_at), CASE WHEN due_at > now THEN 2 ELSE 0 END,
               CASE WHEN due_at IS NOT NULL THEN greatest(now, due_at) END, schedule, key,
               CASE WHEN plain.tracked THEN 1 ELSE 0 END
        FROM plain
    ), tagged AS (
        INSERT INTO outspoken.tags (seq, tag)
        SELECT DISTINCT seq, json_array_elements_text(plain.tags) FROM plain WHERE plain.tags IS NOT NULL
    ), kept AS (
        INSERT INTO outspoken.bodies (seq, body)
        SELECT seq, CASE WHEN whole IS NULL THEN body ELSE substring(whole FROM start FOR size) END FROM plain
    )
    SELECT count(*) INTO count FROM plain;
    IF count < cardinality(ids) THEN
        RAISE SQLSTATE 'OS000';  -- undoes what was added, and nothing else
    END IF;
    RETURN TRUE;
EXCEPTION WHEN SQLSTATE 'OS000' OR unique_violation THEN
    RETURN FALSE;
END
$$;
