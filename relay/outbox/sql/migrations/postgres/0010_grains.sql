-- Deliveries carry where they go and whose they are as text: a producer writes no row that another may write, and there is
-- nothing to route. A row about a destination is the relay's or an operator's.

-- The path of a callback URL, without its query: the endpoint of its origin.
CREATE FUNCTION outspoken.path_of(url TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT left(coalesce(substring(url FROM '^[^:]*://[^/?#]*(/[^?#]*)'), '/'), 255)
$$;

ALTER TABLE outspoken.destinations RENAME TO destinations_before;

-- What is known of a receiver: of an origin (scheme, host and effective port) as a whole, under the path '', and of an
-- endpoint of it, under its path without the query (the first 255 characters). Every origin has a row that was tried; an
-- endpoint has one while it is in trouble, taught a limit, or was spoken of by an operator.
CREATE TABLE outspoken.destinations (
    origin           TEXT COLLATE "C" NOT NULL CHECK (origin LIKE '%_://_%:_%'),
    path             TEXT COLLATE "C" NOT NULL DEFAULT '' CHECK (length(path) <= 255),
    -- What operators said: a paused or disabled destination is not called.
    state            TEXT    NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    -- Its deliveries stand in the lane of the held, and go as it allows.
    held             INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    silent           INTEGER NOT NULL DEFAULT 0 CHECK (silent IN (0, 1)),  -- its latest attempt, if any, was not answered
    failures         INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),     -- in a row, and its own
    open             INTEGER NOT NULL DEFAULT 0 CHECK (open IN (0, 1)),    -- the breaker: 1 after five of them
    starts           TEXT    NOT NULL DEFAULT '[]',  -- JSON: while it is open, when its latest attempts began
    -- The pace: so many attempts at once, or so many every few seconds. NULL: no bound but the slots.
    rate             INTEGER CHECK (rate > 0),
    every            DOUBLE PRECISION CHECK (every > 0),
    slowed_at        DOUBLE PRECISION NOT NULL DEFAULT 0,  -- when it was slowed down last
    allowed_at       DOUBLE PRECISION NOT NULL DEFAULT 0,  -- no attempt goes there before
    owner            TEXT COLLATE "C" NOT NULL DEFAULT '', -- of what was held last: the held have their turns by owner too
    turn_at          DOUBLE PRECISION,                     -- when it is asked next for what it allows; NULL: nothing waits
    largest_accepted BIGINT CHECK (largest_accepted >= 0),
    smallest_refused BIGINT CHECK (smallest_refused >= 0),
    PRIMARY KEY (origin, path)
);
CREATE INDEX destinations_turn ON outspoken.destinations (silent, owner, turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX destinations_next ON outspoken.destinations (turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX destinations_held ON outspoken.destinations (origin, path) WHERE held = 1;

-- URLs that answered 410, as the SHA-256 of each in hexadecimal: nothing goes there until an operator enables them.
CREATE TABLE outspoken.gone_urls (
    sha256 TEXT NOT NULL PRIMARY KEY,
    origin TEXT COLLATE "C" NOT NULL,
    path   TEXT COLLATE "C" NOT NULL,
    since  DOUBLE PRECISION NOT NULL
);
CREATE INDEX gone_urls_place ON outspoken.gone_urls (origin, path);

ALTER TABLE outspoken.deliveries
    DROP CONSTRAINT deliveries_routed,
    DROP CONSTRAINT deliveries_leased_are_routed,
    ADD COLUMN place TEXT COLLATE "C",
    ADD COLUMN path TEXT COLLATE "C",
    ADD COLUMN owner TEXT COLLATE "C" NOT NULL DEFAULT '',      -- whose it is: owners have their turns, whatever one adds
    ADD COLUMN priority INTEGER NOT NULL DEFAULT 0,             -- to its endpoint the higher goes first
    -- Where a pending one stands. 0: ready, it goes when its turn comes. 1: held, its destination says when. 2: scheduled,
    -- it is not due, or has just become so.
    ADD COLUMN lane INTEGER NOT NULL DEFAULT 0 CHECK (lane IN (0, 1, 2));
UPDATE outspoken.deliveries AS it
SET place = coalesce(it.origin, (SELECT one.origin FROM outspoken.destinations_before AS one WHERE one.id = it.destination_id)),
    path = outspoken.path_of(it.url), lane = 2;

INSERT INTO outspoken.destinations (origin, state, held, largest_accepted)
SELECT origin, state, CASE WHEN state = 'active' THEN 0 ELSE 1 END, largest_accepted FROM outspoken.destinations_before;
INSERT INTO outspoken.destinations (origin, path, largest_accepted, smallest_refused)
SELECT DISTINCT it.place, it.path, one.largest_accepted, one.smallest_refused
FROM outspoken.destinations_before AS one JOIN outspoken.deliveries AS it ON it.destination_id = one.id
WHERE one.smallest_refused IS NOT NULL;

-- Views by these names are in the outbox's schema, and where they were before it had one.
DO $$
DECLARE
    one REGCLASS;
BEGIN
    FOR one IN SELECT DISTINCT rule.ev_class FROM pg_depend AS it JOIN pg_rewrite AS rule ON rule.oid = it.objid
               WHERE it.refobjid = CAST('outspoken.destinations_before' AS REGCLASS)
                 AND it.classid = CAST('pg_rewrite' AS REGCLASS) LOOP
        EXECUTE format($view$
            CREATE OR REPLACE VIEW %s AS
            SELECT it.id, it.place COLLATE "default" AS destination, it.state, it.reason, it.attempts,
                   to_timestamp(it.created_at) AS created_at, to_timestamp(it.due_at) AS due_at,
                   to_timestamp(it.finished_at) AS finished_at, stream.key AS stream, it.position %s
        $view$, one, CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = one AND attname = 'tags') THEN $view$,
                   it.idempotency_key,
                   ARRAY(SELECT each.tag FROM outspoken.tags AS each WHERE each.seq = it.seq ORDER BY each.tag) AS tags,
                   last.status AS last_status, last.outcome AS last_outcome, last.detail AS diagnosis
            FROM outspoken.deliveries AS it LEFT JOIN outspoken.streams AS stream ON stream.id = it.stream_id
            LEFT JOIN LATERAL (SELECT each.status, each.outcome, each.detail FROM outspoken.attempts AS each
                               WHERE each.seq = it.seq ORDER BY each.number DESC LIMIT 1) AS last ON TRUE
        $view$ ELSE $view$
            FROM outspoken.deliveries AS it LEFT JOIN outspoken.streams AS stream ON stream.id = it.stream_id
        $view$ END);
    END LOOP;
END
$$;

ALTER TABLE outspoken.deliveries
    DROP COLUMN destination_id,
    DROP COLUMN origin,
    ALTER COLUMN place SET NOT NULL,
    ALTER COLUMN path SET NOT NULL,
    ADD CONSTRAINT deliveries_path CHECK (length(path) BETWEEN 1 AND 255),
    ADD CONSTRAINT deliveries_in_line CHECK (due_at IS NOT NULL OR lane = 2 OR state <> 'pending');
ALTER TABLE outspoken.deliveries RENAME COLUMN place TO origin;

-- Partial, so that a claim costs the same however much was delivered: one for each lane.
DROP INDEX outspoken.deliveries_next;
CREATE INDEX deliveries_ready ON outspoken.deliveries (owner, origin, path, priority DESC, due_at, seq)
    WHERE state = 'pending' AND lane = 0;
CREATE INDEX deliveries_held ON outspoken.deliveries (origin, path, priority DESC, due_at, seq)
    WHERE state = 'pending' AND lane = 1;
CREATE INDEX deliveries_waiting ON outspoken.deliveries (due_at, origin, path) WHERE state = 'pending' AND lane = 1;
CREATE INDEX deliveries_scheduled ON outspoken.deliveries (due_at, origin) WHERE state = 'pending' AND lane = 2;
CREATE INDEX deliveries_leased ON outspoken.deliveries (origin, path, lease_until) WHERE state = 'leased';

-- Keys sign for one origin, or for all (origin NULL).
ALTER TABLE outspoken.signing_keys ADD COLUMN origin TEXT COLLATE "C";
UPDATE outspoken.signing_keys AS it
SET origin = (SELECT one.origin FROM outspoken.destinations_before AS one WHERE one.id = it.destination_id);
ALTER TABLE outspoken.signing_keys DROP COLUMN destination_id;
DROP TABLE outspoken.destinations_before;

-- What adds, with whose it is and how soon it has to go besides. Whoever could call a function before can call what takes
-- its place.
CREATE TABLE outspoken.granted AS
SELECT DISTINCT it.proname AS name, acl.grantee
FROM pg_catalog.pg_proc AS it, aclexplode(it.proacl) AS acl
WHERE it.pronamespace = CAST('outspoken' AS REGNAMESPACE) AND acl.grantee NOT IN (0, it.proowner);
DO $$
DECLARE
    one REGPROCEDURE;
BEGIN
    FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = CAST('outspoken' AS REGNAMESPACE)
                  AND proname IN ('add', 'add_v2', 'try_add_v2', 'try_add_many_v1') LOOP
        EXECUTE format('DROP FUNCTION %s', one);
    END LOOP;
END
$$;

CREATE FUNCTION outspoken.add(
    INOUT id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
    traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
    stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    due_at DOUBLE PRECISION DEFAULT NULL, idempotency_key TEXT DEFAULT NULL, tags TEXT[] DEFAULT NULL,
    tracked BOOLEAN DEFAULT NULL, owner TEXT DEFAULT NULL, priority INTEGER DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    now       CONSTANT DOUBLE PRECISION := extract(epoch FROM clock_timestamp());
    place     TEXT;
    scheme    TEXT;
    handshake JSON;
    number    BIGINT;
    first     RECORD;
BEGIN
    method := coalesce(method, 'POST');
    kind := coalesce(kind, 'final');
    content_type := coalesce(content_type, 'application/json');
    headers := coalesce(headers, '{}');
    on_dead := coalesce(on_dead, 'skip');
    owner := coalesce(owner, '');
    priority := coalesce(priority, 0);
    SELECT it.origin, 'url: ' || it.flaw INTO place, message FROM outspoken.read(url) AS it;
    scheme := split_part(place, ':', 1);
    message := CASE
        WHEN message IS NOT NULL THEN message
        WHEN outspoken.flaw_of_id(id) IS NOT NULL THEN outspoken.flaw_of_id(id)
        WHEN stream IS NOT NULL AND outspoken.flaw_of('stream', stream) IS NOT NULL THEN outspoken.flaw_of('stream', stream)
        WHEN schedule NOT IN ('fixed', 'exponential') THEN 'schedule: expected "fixed" or "exponential"'
        WHEN method NOT IN ('POST', 'PUT') THEN 'method: expected "POST" or "PUT"'
        WHEN kind NOT IN ('final', 'partial', 'error') THEN 'kind: expected "final", "partial" or "error"'
        WHEN on_dead NOT IN ('skip', 'kill') THEN 'on_dead: expected "skip" or "kill"'
        WHEN body IS NULL THEN 'body: expected text, bytea, json or jsonb'
        WHEN content_type !~ '^[!#$%&''*+.^_`|~0-9A-Za-z-]+/[!#$%&''*+.^_`|~0-9A-Za-z-]+ *(;[\x09\x20-\x7e]*)?$'
        THEN 'content_type: expected a media type, such as application/json'
        WHEN traceparent !~ '^([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?)?$'
        THEN 'traceparent: expected what W3C Trace Context says, 00-TRACE-PARENT-FLAGS in lower-case hexadecimal'
        WHEN due_at IS NOT NULL AND stream IS NOT NULL
        THEN 'due_at: a delivery of a stream is due when the one before it has ended: leave one of the two out'
        WHEN due_at NOT BETWEEN 0 AND 253402300799 THEN 'due_at: expected a time from 1970 to 9999'
        WHEN idempotency_key IS NOT NULL AND (length(idempotency_key) NOT BETWEEN 1 AND 256
                                              OR idempotency_key ~ '[\x01-\x1f\x7f]')
        THEN 'idempotency_key: expected 1 to 256 characters, none of them a control character'
        WHEN length(owner) > 128 THEN format('owner: expected 0 to 128 characters, got %s', length(owner))
        WHEN priority NOT BETWEEN -100 AND 100 THEN 'priority: expected -100 to 100'
        WHEN scheme IN ('ws', 'wss') AND stream IS NULL
        THEN 'stream: a delivery to a WebSocket is one message of a stream: name it'
        WHEN scheme IN ('ws', 'wss') AND NOT outspoken.is_text(body)
        THEN 'body: a WebSocket''s message is text: it has to be UTF-8'
        ELSE coalesce(outspoken.flaw_of(headers), outspoken.flaw_of_overlap(headers, url, traced => TRUE),
                      outspoken.flaw_of(tags))
    END;
    IF message IS NOT NULL THEN
        refusal := 'invalid_delivery';
        RETURN;
    END IF;

    IF stream IS NOT NULL THEN
        handshake := headers;
        IF traceparent <> '' THEN
            SELECT json_object_agg(it.key, it.value ORDER BY it.place) INTO handshake
            FROM (SELECT 'traceparent' AS key, traceparent AS value, 0 AS place
                  UNION ALL SELECT one.key, one.value, one.place
                  FROM json_each_text(headers) WITH ORDINALITY AS one (key, value, place)) AS it;
        END IF;
        SELECT it.refusal, it.message INTO refusal, message
        FROM outspoken.join_stream(stream, scheme, url, handshake, on_dead, live_until, producer, 1) AS it;
        IF refusal IS NOT NULL THEN
            SELECT * INTO first FROM outspoken.added_before(idempotency_key, url, method, content_type, body);
            IF NOT first.differs THEN
                SELECT first.id, NULL, NULL INTO id, refusal, message;
            END IF;
            RETURN;
        END IF;
    END IF;

    -- Due at once, or when the one before it in its stream has ended; the messages of a WebSocket are never due: whoever
    -- holds the socket reads them in order. The row of the stream is locked by now, so that what went on in it is seen.
    INSERT INTO outspoken.deliveries
        (id, owner, origin, path, url, method, kind, priority, content_type, headers, traceparent, body_bytes, created_at,
         due_at, lane, scheduled_from, schedule, stream_id, position, idempotency_key, tracked)
    SELECT id, owner, place, outspoken.path_of(url), url, method, kind, priority, content_type, headers, traceparent,
           length(body), now, CASE WHEN NOT line.waits THEN greatest(now, due_at) END,
           CASE WHEN line.waits OR due_at > now THEN 2 ELSE 0 END,
           CASE WHEN due_at IS NOT NULL THEN greatest(now, due_at) END,
           schedule, line.id, line.position, idempotency_key, CASE WHEN tracked THEN 1 ELSE 0 END
    FROM (SELECT it.id, it.position,
                 coalesce(it.transport = 'ws', FALSE)
                 OR EXISTS (SELECT FROM outspoken.deliveries AS before
                            WHERE before.stream_id = it.id AND before.state IN ('pending', 'leased')) AS waits
          FROM (SELECT) AS one LEFT JOIN outspoken.streams AS it ON it.key = stream) AS line
    ON CONFLICT DO NOTHING
    RETURNING seq INTO number;
    IF number IS NULL THEN
        UPDATE outspoken.streams AS it SET position = it.position - 1 WHERE it.key = stream;
        SELECT * INTO first FROM outspoken.added_before(idempotency_key, url, method, content_type, body);
        IF first.id IS NULL THEN
            refusal := 'duplicate_delivery';
            message := format('delivery %s is in the outbox already', id);
        ELSIF first.differs THEN
            refusal := 'invalid_delivery';
            message := 'idempotency_key: it stands for a delivery with another url, method, content_type or body:'
                       ' take a key of its own';
        ELSE
            id := first.id;
        END IF;
        RETURN;
    END IF;
    INSERT INTO outspoken.bodies (seq, body) VALUES (number, body);
    IF tags IS NOT NULL THEN
        INSERT INTO outspoken.tags (seq, tag) SELECT DISTINCT number, one FROM unnest(tags) AS one;
    END IF;
END
$$;

-- A batch: all of it or nothing. Arrays of equal length, one element for each delivery; NULL for an array is NULL for each.
-- Answers with the ids, as `try_add_v2` does one by one, or with what is wrong and where: `place` counts from 0.
CREATE FUNCTION outspoken.try_add_many_v1(
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

DO $types$
DECLARE
    first  TEXT;  -- where headers have to be given
    later  TEXT;  -- where they may be left out
BEGIN
    FOR first, later IN VALUES ('', 'headers TEXT DEFAULT NULL,'), ('headers JSON,', ''), ('headers JSONB,', '') LOOP

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
                tracked BOOLEAN DEFAULT NULL, owner TEXT DEFAULT NULL, priority INTEGER DEFAULT NULL,
                OUT refusal TEXT, OUT message TEXT
            ) LANGUAGE plpgsql AS $$
            BEGIN
                SELECT said.id, said.refusal, said.message INTO id, refusal, message
                FROM outspoken.add(id, url, outspoken.bytes_of(body), method, kind, content_type,
                                   outspoken.json_of(headers), traceparent, schedule, stream, on_dead, live_until,
                                   producer, due_at, idempotency_key, tags, tracked, owner, priority) AS said;
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
                tracked BOOLEAN DEFAULT NULL, owner TEXT DEFAULT NULL, priority INTEGER DEFAULT NULL
            ) RETURNS TEXT LANGUAGE plpgsql AS $$
            DECLARE
                said RECORD;
            BEGIN
                SELECT * INTO said
                FROM outspoken.add(id, url, outspoken.bytes_of(body), method, kind, content_type,
                                   outspoken.json_of(headers), traceparent, schedule, stream, on_dead, live_until,
                                   producer, due_at, idempotency_key, tags, tracked, owner, priority);
                IF said.refusal IS NOT NULL THEN
                    RAISE EXCEPTION USING MESSAGE = said.message, ERRCODE = outspoken.sqlstate_of(said.refusal),
                                          CONSTRAINT = said.refusal;
                END IF;
                RETURN said.id;
            END
            $$
        $define$, first, later);
    END LOOP;
END
$types$;

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
