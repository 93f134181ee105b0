-- The functions that add take a body and headers in whatever type a program has them: text, bytea, json or jsonb. What a
-- program does not say the type of, as psql and most drivers do, is text, in UTF-8 to the receiver.
--
-- The body is of a type that stands for any; headers are not, because one function has but one such type, and so there is
-- each function three times. Of the three only that with text may be called without them. What all of them do is in one
-- function, `outspoken.add`, which works with its caller's rights.
CREATE TABLE outspoken.granted AS
SELECT DISTINCT it.proname AS name, acl.grantee
FROM pg_catalog.pg_proc AS it, aclexplode(it.proacl) AS acl
WHERE it.pronamespace = CAST('outspoken' AS REGNAMESPACE) AND acl.grantee NOT IN (0, it.proowner);

DROP FUNCTION outspoken.add_v2(TEXT, TEXT, BYTEA, TEXT, TEXT, TEXT, JSON, TEXT, TEXT, TEXT, TEXT, DOUBLE PRECISION, TEXT,
                               DOUBLE PRECISION, TEXT, TEXT[], BOOLEAN);
DROP FUNCTION outspoken.add_v1(TEXT, TEXT, BYTEA, TEXT, TEXT, TEXT, JSON, TEXT, TEXT, TEXT, TEXT, DOUBLE PRECISION, TEXT);
DROP FUNCTION outspoken.try_add_v1(
    TEXT, TEXT, BYTEA, TEXT, TEXT, TEXT, JSON, TEXT, TEXT, TEXT, TEXT, DOUBLE PRECISION, TEXT);
DROP FUNCTION outspoken.begin_stream_v1(TEXT, TEXT, JSON, TEXT, DOUBLE PRECISION, TEXT);
DROP FUNCTION outspoken.raise(TEXT, TEXT);
ALTER FUNCTION outspoken.try_add_v2(TEXT, TEXT, BYTEA, TEXT, TEXT, TEXT, JSON, TEXT, TEXT, TEXT, TEXT, DOUBLE PRECISION,
                                    TEXT, DOUBLE PRECISION, TEXT, TEXT[], BOOLEAN) RENAME TO add;
ALTER FUNCTION outspoken.add SECURITY INVOKER RESET ALL;
ALTER FUNCTION outspoken.try_begin_stream_v1(TEXT, TEXT, JSON, TEXT, DOUBLE PRECISION, TEXT) RENAME TO begin_stream;
ALTER FUNCTION outspoken.begin_stream SECURITY INVOKER RESET ALL;

-- A body's bytes; NULL for what has none.
CREATE FUNCTION outspoken.bytes_of(body ANYCOMPATIBLE) RETURNS BYTEA LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    CASE format_type(pg_typeof(body), NULL)
        WHEN 'bytea' THEN RETURN body;
        WHEN 'text', 'character varying', 'json', 'jsonb' THEN RETURN convert_to(CAST(body AS TEXT), 'UTF8');
        ELSE RETURN NULL;
    END CASE;
END
$$;

-- Headers as JSON; what is none becomes JSON's null, which is no object.
CREATE FUNCTION outspoken.json_of(headers TEXT) RETURNS JSON LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CAST(headers AS JSON);
EXCEPTION WHEN invalid_text_representation THEN
    RETURN 'null';
END
$$;
CREATE FUNCTION outspoken.json_of(headers JSON) RETURNS JSON LANGUAGE sql IMMUTABLE AS 'SELECT headers';
CREATE FUNCTION outspoken.json_of(headers JSONB) RETURNS JSON LANGUAGE sql IMMUTABLE AS 'SELECT CAST(headers AS JSON)';

CREATE FUNCTION outspoken.sqlstate_of(refusal TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE refusal WHEN 'invalid_delivery' THEN 'OS001' WHEN 'duplicate_delivery' THEN 'OS002'
                        WHEN 'stream_killed' THEN 'OS003' ELSE 'OS004' END
$$;

DO $types$
DECLARE
    first  TEXT;  -- where headers have to be given
    later  TEXT;  -- where they may be left out
BEGIN
    FOR first, later IN VALUES ('', 'headers TEXT DEFAULT NULL,'), ('headers JSON,', ''), ('headers JSONB,', '') LOOP

        -- One result for one callback URL: there when the caller's transaction commits, and not before.
        EXECUTE format($define$
            CREATE FUNCTION outspoken.try_add_v1(
                id TEXT, url TEXT, body ANYCOMPATIBLE, %1$s
                method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, %2$s
                traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
                stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
                producer TEXT DEFAULT NULL,
                OUT refusal TEXT, OUT message TEXT
            ) LANGUAGE plpgsql AS $$
            BEGIN
                SELECT said.refusal, said.message INTO refusal, message
                FROM outspoken.add(id, url, outspoken.bytes_of(body), method, kind, content_type,
                                   outspoken.json_of(headers), traceparent, schedule, stream, on_dead, live_until,
                                   producer) AS said;
            END
            $$
        $define$, first, later);
        EXECUTE format($define$
            CREATE FUNCTION outspoken.add_v1(
                id TEXT, url TEXT, body ANYCOMPATIBLE, %1$s
                method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, %2$s
                traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
                stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
                producer TEXT DEFAULT NULL
            ) RETURNS void LANGUAGE plpgsql AS $$
            DECLARE
                said RECORD;
            BEGIN
                SELECT * INTO said
                FROM outspoken.add(id, url, outspoken.bytes_of(body), method, kind, content_type,
                                   outspoken.json_of(headers), traceparent, schedule, stream, on_dead, live_until,
                                   producer);
                IF said.refusal IS NOT NULL THEN
                    RAISE EXCEPTION USING MESSAGE = said.message, ERRCODE = outspoken.sqlstate_of(said.refusal),
                                          CONSTRAINT = said.refusal;
                END IF;
            END
            $$
        $define$, first, later);

        -- The same, with all there is to say. `id` becomes the one under which it is kept: the given one, or that of the
        -- first delivery under the same idempotency key, and then nothing is added.
        EXECUTE format($define$
            CREATE FUNCTION outspoken.try_add_v2(
                INOUT id TEXT, url TEXT, body ANYCOMPATIBLE, %1$s
                method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, %2$s
                traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
                stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
                producer TEXT DEFAULT NULL,
                due_at DOUBLE PRECISION DEFAULT NULL, idempotency_key TEXT DEFAULT NULL, tags TEXT[] DEFAULT NULL,
                tracked BOOLEAN DEFAULT NULL,
                OUT refusal TEXT, OUT message TEXT
            ) LANGUAGE plpgsql AS $$
            BEGIN
                SELECT said.id, said.refusal, said.message INTO id, refusal, message
                FROM outspoken.add(id, url, outspoken.bytes_of(body), method, kind, content_type,
                                   outspoken.json_of(headers), traceparent, schedule, stream, on_dead, live_until,
                                   producer, due_at, idempotency_key, tags, tracked) AS said;
            END
            $$
        $define$, first, later);
        EXECUTE format($define$
            CREATE FUNCTION outspoken.add_v2(
                id TEXT, url TEXT, body ANYCOMPATIBLE, %1$s
                method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, %2$s
                traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
                stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
                producer TEXT DEFAULT NULL,
                due_at DOUBLE PRECISION DEFAULT NULL, idempotency_key TEXT DEFAULT NULL, tags TEXT[] DEFAULT NULL,
                tracked BOOLEAN DEFAULT NULL
            ) RETURNS TEXT LANGUAGE plpgsql AS $$
            DECLARE
                said RECORD;
            BEGIN
                SELECT * INTO said
                FROM outspoken.add(id, url, outspoken.bytes_of(body), method, kind, content_type,
                                   outspoken.json_of(headers), traceparent, schedule, stream, on_dead, live_until,
                                   producer, due_at, idempotency_key, tags, tracked);
                IF said.refusal IS NOT NULL THEN
                    RAISE EXCEPTION USING MESSAGE = said.message, ERRCODE = outspoken.sqlstate_of(said.refusal),
                                          CONSTRAINT = said.refusal;
                END IF;
                RETURN said.id;
            END
            $$
        $define$, first, later);

        -- A stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.
        EXECUTE format($define$
            CREATE FUNCTION outspoken.try_begin_stream_v1(
                stream TEXT, url TEXT, %1$s on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
                producer TEXT DEFAULT NULL,
                OUT refusal TEXT, OUT message TEXT
            ) LANGUAGE plpgsql AS $$
            BEGIN
                SELECT said.refusal, said.message INTO refusal, message
                FROM outspoken.begin_stream(stream, url, outspoken.json_of(headers), on_dead, live_until, producer)
                     AS said;
            END
            $$
        $define$, first || later);
        EXECUTE format($define$
            CREATE FUNCTION outspoken.begin_stream_v1(
                stream TEXT, url TEXT, %1$s on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
                producer TEXT DEFAULT NULL
            ) RETURNS void LANGUAGE plpgsql AS $$
            DECLARE
                said RECORD;
            BEGIN
                SELECT * INTO said
                FROM outspoken.begin_stream(stream, url, outspoken.json_of(headers), on_dead, live_until, producer);
                IF said.refusal IS NOT NULL THEN
                    RAISE EXCEPTION USING MESSAGE = said.message, ERRCODE = outspoken.sqlstate_of(said.refusal),
                                          CONSTRAINT = said.refusal;
                END IF;
            END
            $$
        $define$, first || later);
    END LOOP;
END
$types$;

-- As the functions by their old names call them, beside tables that were moved into this schema: by place, all of it.
CREATE FUNCTION outspoken.try_add_v1(
    TEXT, TEXT, ANYCOMPATIBLE, TEXT, TEXT, TEXT, JSON, TEXT, TEXT, TEXT, TEXT, DOUBLE PRECISION, TEXT,
    OUT refusal TEXT, OUT message TEXT
) LANGUAGE sql AS $$
    SELECT said.refusal, said.message
    FROM outspoken.add($1, $2, outspoken.bytes_of($3), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS said
$$;
CREATE FUNCTION outspoken.add_v1(
    TEXT, TEXT, ANYCOMPATIBLE, TEXT, TEXT, TEXT, JSON, TEXT, TEXT, TEXT, TEXT, DOUBLE PRECISION, TEXT
) RETURNS void LANGUAGE sql AS $$
    SELECT outspoken.add_v1(
        id => $1, url => $2, body => $3, method => $4, kind => $5, content_type => $6, headers => $7, traceparent => $8,
        schedule => $9, stream => $10, on_dead => $11, live_until => $12, producer => $13)
$$;

DO $$
DECLARE
    one  REGPROCEDURE;
    role REGROLE;
BEGIN
    FOR one IN SELECT oid FROM pg_proc
               WHERE pronamespace = CAST('outspoken' AS REGNAMESPACE) AND proname ~ '_v[0-9]+$' LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp', one);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
    END LOOP;
    -- Whoever could call a function before can call what has taken its place.
    FOR one, role IN SELECT it.oid, given.grantee FROM pg_proc AS it JOIN outspoken.granted AS given ON given.name = it.proname
                     WHERE it.pronamespace = CAST('outspoken' AS REGNAMESPACE) LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', one, role);
    END LOOP;
END
$$;
DROP TABLE outspoken.granted;
