-- A batch is added by one statement where nothing is wrong with any of it and none of it is there already. Whatever else
-- there is to say of it is found out one by one.
CREATE FUNCTION outspoken.add_each(
    INOUT ids TEXT[], urls TEXT[], bodies BYTEA[],
    methods TEXT[] DEFAULT NULL, kinds TEXT[] DEFAULT NULL, content_types TEXT[] DEFAULT NULL,
    headers TEXT[] DEFAULT NULL, traceparents TEXT[] DEFAULT NULL, schedules TEXT[] DEFAULT NULL,
    due_ats DOUBLE PRECISION[] DEFAULT NULL, idempotency_keys TEXT[] DEFAULT NULL,
    tags TEXT[] DEFAULT NULL, tracked BOOLEAN[] DEFAULT NULL, owners TEXT[] DEFAULT NULL,
    priorities INTEGER[] DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT, OUT place INTEGER
) LANGUAGE plpgsql AS $$
DECLARE
    said RECORD;
    kept TEXT[] := '{}';
BEGIN
    FOR at IN 1..coalesce(cardinality(ids), 0) LOOP
        SELECT * INTO said
        FROM outspoken.add(
            ids[at], urls[at], bodies[at], methods[at], kinds[at], content_types[at],
            headers => CAST(headers[at] AS JSON), traceparent => traceparents[at], schedule => schedules[at],
            due_at => due_ats[at], idempotency_key => idempotency_keys[at],
            tags => CASE WHEN tags[at] IS NOT NULL
                    THEN ARRAY(SELECT one FROM json_array_elements_text(CAST(tags[at] AS JSON)) AS one) END,
            tracked => tracked[at], owner => owners[at], priority => priorities[at]);
        IF said.refusal IS NOT NULL THEN
            RAISE SQLSTATE 'OS000';  -- undoes what was added up to here, and nothing else
        END IF;
        kept := kept || said.id;
        place := at;
    END LOOP;
    SELECT kept, NULL INTO ids, place;
EXCEPTION WHEN SQLSTATE 'OS000' THEN
    SELECT NULL, said.refusal, said.message, coalesce(place, 0) INTO ids, refusal, message, place;
END
$$;

-- Adds all of a batch, or nothing: then the answer is no. Not only what is wrong, what is unusual is left to `add_each` too.
-- Bodies come one by one, or one behind the other in `whole`, each of so many bytes (`sizes`) from `starts`.
CREATE FUNCTION outspoken.add_plain(
    ids TEXT[], urls TEXT[], bodies BYTEA[], methods TEXT[], kinds TEXT[], content_types TEXT[], headers TEXT[],
    traceparents TEXT[], schedules TEXT[], due_ats DOUBLE PRECISION[], idempotency_keys TEXT[], tags TEXT[],
    tracked BOOLEAN[], owners TEXT[], priorities INTEGER[], starts INTEGER[], sizes INTEGER[], whole BYTEA
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now   CONSTANT DOUBLE PRECISION := extract(epoch FROM clock_timestamp());
    count INTEGER;
BEGIN
    WITH given AS MATERIALIZED (
        SELECT it.place, it.id, it.url, substring(it.url FROM '^[A-Za-z]+://[^/?#@\\]*') AS beginning, it.body,
               it.start, coalesce(it.size, length(it.body)) AS size,
               coalesce(it.method, 'POST') AS method, coalesce(it.kind, 'final') AS kind,
               coalesce(it.content_type, 'application/json') AS content_type, coalesce(it.headers, '{}') AS headers,
               it.traceparent, it.schedule, it.due_at, it.key, CAST(it.tags AS JSON) AS tags,
               coalesce(it.tracked, FALSE) AS tracked, coalesce(it.owner, '') AS owner,
               coalesce(it.priority, 0) AS priority
        FROM unnest(ids, urls, bodies, methods, kinds, content_types, headers, traceparents, schedules, due_ats,
                    idempotency_keys, tags, tracked, owners, priorities, starts, sizes)
             WITH ORDINALITY AS it (id, url, body, method, kind, content_type, headers, traceparent, schedule, due_at, key,
                                    tags, tracked, owner, priority, start, size, place)
    ), destinations AS MATERIALIZED (
        SELECT one.beginning, place.origin
        FROM (SELECT DISTINCT each.beginning FROM given AS each) AS one,
             LATERAL outspoken.read(one.beginning || '/') AS place
        WHERE place.origin LIKE 'http%'
    ), plain AS MATERIALIZED (
        SELECT given.*, destinations.origin
        FROM given JOIN destinations ON destinations.beginning = given.beginning
        WHERE length(id) BETWEEN 1 AND 256 AND id ~ '^[ -~]*$' COLLATE "C" AND id !~ '^ | $'
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
            (id, owner, origin, path, url, method, kind, priority, content_type, headers, traceparent, body_bytes,
             created_at, due_at, lane, scheduled_from, schedule, idempotency_key, tracked)
        SELECT id, owner, origin, outspoken.path_of(url), url, method, kind, priority, content_type, CAST(headers AS JSON),
               traceparent, size, now, greatest(now, due_at), CASE WHEN due_at > now THEN 2 ELSE 0 END,
               CASE WHEN due_at IS NOT NULL THEN greatest(now, due_at) END, schedule, key,
               CASE WHEN plain.tracked THEN 1 ELSE 0 END
        FROM plain ORDER BY place
        ON CONFLICT DO NOTHING
        RETURNING seq, id
    ), tagged AS (
        INSERT INTO outspoken.tags (seq, tag)
        SELECT DISTINCT added.seq, json_array_elements_text(plain.tags)
        FROM added JOIN plain ON plain.id = added.id WHERE plain.tags IS NOT NULL
        ON CONFLICT DO NOTHING
    ), kept AS (
        INSERT INTO outspoken.bodies (seq, body)
        SELECT added.seq, CASE WHEN whole IS NULL THEN plain.body ELSE substring(whole FROM plain.start FOR plain.size) END
        FROM added JOIN plain ON plain.id = added.id
        ON CONFLICT DO NOTHING
        RETURNING seq
    )
    SELECT count(*) INTO count FROM kept;
    IF count < cardinality(ids) THEN
        RAISE SQLSTATE 'OS000';  -- undoes what was added, and nothing else
    END IF;
    RETURN TRUE;
EXCEPTION WHEN SQLSTATE 'OS000' THEN
    RETURN FALSE;
END
$$;

-- A batch: all of it or nothing. Arrays of equal length, one element for each delivery; NULL for an array is NULL for each.
-- Answers with the ids, as `try_add_v2` does one by one, or with what is wrong and where: `place` counts from 0.
CREATE OR REPLACE FUNCTION outspoken.try_add_many_v1(
    INOUT ids TEXT[], urls TEXT[], bodies BYTEA[],
    methods TEXT[] DEFAULT NULL, kinds TEXT[] DEFAULT NULL, content_types TEXT[] DEFAULT NULL,
    headers TEXT[] DEFAULT NULL, traceparents TEXT[] DEFAULT NULL, schedules TEXT[] DEFAULT NULL,
    due_ats DOUBLE PRECISION[] DEFAULT NULL, idempotency_keys TEXT[] DEFAULT NULL,
    tags TEXT[] DEFAULT NULL, tracked BOOLEAN[] DEFAULT NULL, owners TEXT[] DEFAULT NULL,
    priorities INTEGER[] DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT, OUT place INTEGER
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT outspoken.add_plain(ids, urls, bodies, methods, kinds, content_types, headers, traceparents, schedules, due_ats,
                               idempotency_keys, tags, tracked, owners, priorities, NULL, NULL, NULL) THEN
        SELECT said.ids, said.refusal, said.message, said.place INTO ids, refusal, message, place
        FROM outspoken.add_each(ids, urls, bodies, methods, kinds, content_types, headers, traceparents, schedules, due_ats,
                                idempotency_keys, tags, tracked, owners, priorities) AS said;
    END IF;
END
$$;

-- The same from one JSON array of objects, as the library sends it: drivers take long over arrays of bodies. Those are one
-- behind the other in `bodies`, each of so many `bytes` from `start`, which counts from 1.
CREATE FUNCTION outspoken.try_add_batch_v1(
    deliveries JSON, bodies BYTEA, OUT ids TEXT[], OUT refusal TEXT, OUT message TEXT, OUT place INTEGER
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one RECORD;
BEGIN
    SELECT array_agg(it.id) AS ids, array_agg(it.url) AS urls, array_agg(it.start) AS starts, array_agg(it.bytes) AS sizes,
           array_agg(it.method) AS methods, array_agg(it.kind) AS kinds, array_agg(it.content_type) AS content_types,
           array_agg(it.headers) AS headers, array_agg(it.traceparent) AS traceparents,
           array_agg(it.schedule) AS schedules, array_agg(it.due_at) AS due_ats,
           array_agg(it.idempotency_key) AS idempotency_keys, array_agg(it.tags) AS tags,
           array_agg(it.tracked) AS tracked, array_agg(it.owner) AS owners, array_agg(it.priority) AS priorities INTO one
    FROM json_to_recordset(deliveries) AS it (
        id TEXT, url TEXT, start INTEGER, bytes INTEGER, method TEXT, kind TEXT, content_type TEXT, headers TEXT,
        traceparent TEXT, schedule TEXT, due_at DOUBLE PRECISION, idempotency_key TEXT, tags TEXT, tracked BOOLEAN,
        owner TEXT, priority INTEGER);
    IF outspoken.add_plain(one.ids, one.urls, NULL, one.methods, one.kinds, one.content_types, one.headers,
                           one.traceparents, one.schedules, one.due_ats, one.idempotency_keys, one.tags, one.tracked,
                           one.owners, one.priorities, one.starts, one.sizes, bodies) THEN
        ids := one.ids;
        RETURN;
    END IF;
    SELECT said.ids, said.refusal, said.message, said.place INTO ids, refusal, message, place
    FROM outspoken.add_each(
        one.ids, one.urls,
        ARRAY(SELECT substring(bodies FROM it.start FOR it.size)
              FROM unnest(one.starts, one.sizes) WITH ORDINALITY AS it (start, size, place) ORDER BY it.place),
        one.methods, one.kinds, one.content_types, one.headers, one.traceparents, one.schedules, one.due_ats,
        one.idempotency_keys, one.tags, one.tracked, one.owners, one.priorities) AS said;
END
$$;
DO $$
DECLARE
    role REGROLE;
BEGIN
    REVOKE ALL ON FUNCTION outspoken.try_add_batch_v1 FROM PUBLIC;
    -- Whoever could add a batch before can do so by this one.
    FOR role IN SELECT DISTINCT acl.grantee FROM pg_proc AS it, aclexplode(it.proacl) AS acl
                WHERE it.pronamespace = CAST('outspoken' AS REGNAMESPACE) AND it.proname = 'try_add_many_v1'
                  AND acl.grantee NOT IN (0, it.proowner) LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION outspoken.try_add_batch_v1 TO %s', role);
    END LOOP;
END
$$;
