-- What a producer may say besides of a delivery: a key under which it is added once, tags to find it by, when it is due, and
-- that its end is to be told. Who says none of it pays for none of it.
ALTER TABLE outspoken.deliveries
    -- Unique as long as the delivery is kept: whoever adds it again under this key is answered with the first one's id.
    ADD COLUMN idempotency_key TEXT CHECK (length(idempotency_key) BETWEEN 1 AND 256),
    ADD COLUMN tracked INTEGER NOT NULL DEFAULT 0 CHECK (tracked IN (0, 1));  -- 1: its end goes into `ends`
CREATE UNIQUE INDEX deliveries_idempotency ON outspoken.deliveries (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Words that deliveries are found by.
CREATE TABLE outspoken.tags (
    seq BIGINT NOT NULL REFERENCES outspoken.deliveries (seq) ON DELETE CASCADE,
    tag TEXT   NOT NULL CHECK (length(tag) BETWEEN 1 AND 128),
    PRIMARY KEY (seq, tag)
);
CREATE INDEX tags_found ON outspoken.tags (tag, seq);

-- Tracked deliveries whose end nobody has taken note of. They are taken out in the transaction of whoever acts on them.
CREATE TABLE outspoken.ends (
    seq BIGINT PRIMARY KEY REFERENCES outspoken.deliveries (seq) ON DELETE CASCADE
);
CREATE FUNCTION outspoken.note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outspoken.ends (seq) VALUES (NEW.seq) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_end AFTER UPDATE OF finished_at ON outspoken.deliveries FOR EACH ROW
    WHEN (NEW.tracked = 1 AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION outspoken.note_end();

-- What is wrong with headers, NULL if nothing is. What frames a message, or is ours to say, is no producer's.
CREATE OR REPLACE FUNCTION outspoken.flaw_of(headers JSON) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    escapes CONSTANT TEXT := lower(replace(CAST(headers AS TEXT), '\\', '') COLLATE "C");  -- without escaped backslashes
    flaw    TEXT;
BEGIN
    IF json_typeof(headers) <> 'object' THEN
        RETURN 'headers: expected a JSON object';
    END IF;
    IF escapes ~ '\\u0000' OR regexp_replace(escapes, '\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}', '', 'g') ~ '\\ud[89a-f]' THEN
        RETURN 'headers: U+0000 and lone surrogates cannot be kept: leave them out';
    END IF;
    IF EXISTS (SELECT FROM json_each(headers) AS one WHERE json_typeof(one.value) <> 'string') THEN
        RETURN 'headers: expected a JSON object whose values are strings';
    END IF;
    SELECT it.flaw INTO flaw
    FROM (SELECT place, CASE
            WHEN key !~ '^[!#$%&''*+.^_`|~0-9A-Za-z-]+$'
            THEN 'headers: a name is one or more of the letters, digits and !#$%&''*+-.^_`|~'
            WHEN lower(key COLLATE "C") ~ ('^(host|content-length|transfer-encoding|connection|keep-alive|proxy-connection'
                                           '|expect|upgrade|te|trailer|user-agent|webhook-.*|sec-websocket-.*)$')
            THEN format('headers.%s: it is set by the relay: leave it out', key)
            WHEN lower(key COLLATE "C") = 'content-type' THEN format('headers.%s: use content_type', key)
            WHEN value ~ '[^\x09\x20-\x7e\xa0-\xff]'
            THEN format('headers.%s: its value holds a control character, or one beyond Latin-1', key)
          END AS flaw
          FROM json_each_text(headers) WITH ORDINALITY AS one (key, value, place)) AS it
    WHERE it.flaw IS NOT NULL ORDER BY it.place LIMIT 1;
    RETURN flaw;
END
$$;

-- What headers say that is said elsewhere already, NULL if nothing. `traced`: there is an argument for the trace.
CREATE FUNCTION outspoken.flaw_of_overlap(headers JSON, url TEXT, traced BOOLEAN) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN name = 'traceparent' THEN format('headers.%s: use traceparent', key)
           ELSE format('headers.%s: the URL brings credentials of its own: leave one of the two out', key) END
    FROM (SELECT key, lower(key COLLATE "C") AS name FROM json_object_keys(headers) AS key) AS one
    WHERE name = 'traceparent' AND traced OR name = 'authorization' AND url ~ '^[^/]*//[^/?#]*@' LIMIT 1
$$;

-- What is wrong with the id of a delivery, NULL if nothing is. It is sent as a header.
CREATE FUNCTION outspoken.flaw_of_id(id TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN coalesce(id, '') !~ '^[ -~]*$' COLLATE "C" OR id ~ '^ | $'
                THEN 'id: expected printable ASCII, without spaces around it: receivers get it as a header'
                ELSE outspoken.flaw_of('id', id) END
$$;

-- A stream appears with its first delivery, and counts what is added to it. Nothing joins one that has come to its end,
-- and one socket leads to one place.
CREATE OR REPLACE FUNCTION outspoken.join_stream(
    stream TEXT, scheme TEXT, stream_url TEXT, handshake JSON, dead TEXT, live_until DOUBLE PRECISION, process TEXT,
    more INTEGER, OUT refusal TEXT, OUT message TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    socket CONSTANT BOOLEAN := scheme IN ('ws', 'wss');
    lead   CONSTANT TEXT := CASE WHEN socket THEN stream_url END;
    one    RECORD;
BEGIN
    IF socket AND (stream !~ '^[ -~]*$' COLLATE "C" OR stream ~ '^ | $') THEN
        refusal := 'invalid_delivery';
        message := 'stream: expected printable ASCII, without spaces around it: the handshake of a WebSocket sends it';
        RETURN;
    END IF;
    INSERT INTO outspoken.streams AS it (key, on_dead, transport, url, headers, producer_until, producer, position)
    VALUES (stream, dead, CASE WHEN socket THEN 'ws' ELSE 'http' END, lead,
            CASE WHEN socket THEN handshake ELSE '{}' END, live_until, process, more)
    ON CONFLICT (key) DO UPDATE
    SET position = it.position + more, producer_until = greatest(it.producer_until, live_until),
        producer = coalesce(process, it.producer)
    WHERE it.state = 'open' AND (it.transport = 'ws') = socket AND it.url IS NOT DISTINCT FROM lead;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT it.state, (it.transport = 'ws') = socket AND it.url IS NOT DISTINCT FROM lead AS same INTO one
    FROM outspoken.streams AS it WHERE it.key = stream;
    IF NOT one.same THEN
        refusal := 'invalid_delivery';
        message := format('stream: %s leads to another URL: one socket, one place', stream);
    ELSIF coalesce(one.state, 'killed') = 'killed' THEN
        refusal := 'stream_killed';
        message := format('stream %s was killed: nothing can be added to it', stream);
    ELSE
        refusal := 'stream_ended';
        message := format('stream %s has ended: nothing can be added to it', stream);
    END IF;
END
$$;

-- What is wrong with tags, NULL if nothing is.
CREATE FUNCTION outspoken.flaw_of(tags TEXT[]) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN cardinality(tags) > 20 THEN format('tags: expected at most 20, got %s', cardinality(tags))
        WHEN EXISTS (SELECT FROM unnest(tags) AS one WHERE one IS NULL OR length(one) NOT BETWEEN 1 AND 128
                                                           OR one ~ '[\x01-\x1f\x7f]')
        THEN 'tags: expected 1 to 128 characters each, none of them a control character' END
$$;

-- A delivery that was added under a key, and whether it is another one than is to be added now. Its body counts as long as
-- it is kept, and then its size.
CREATE FUNCTION outspoken.added_before(
    key TEXT, new_url TEXT, new_method TEXT, new_content_type TEXT, new_body BYTEA, OUT id TEXT, OUT differs BOOLEAN
) LANGUAGE sql STABLE AS $$
    SELECT it.id, it.url <> new_url OR it.method <> new_method OR it.content_type <> new_content_type
                  OR it.body_bytes <> length(new_body) OR coalesce(content.body <> new_body, FALSE)
    FROM outspoken.deliveries AS it LEFT JOIN outspoken.bodies AS content ON content.seq = it.seq
    WHERE it.idempotency_key = key
$$;

-- One result for one callback URL: there when the caller's transaction commits, and not before. `id` becomes the one under
-- which it is kept: the given one, or that of the first delivery under the same idempotency key, and then nothing is added.
CREATE FUNCTION outspoken.try_add_v2(
    INOUT id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
    traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
    stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    due_at DOUBLE PRECISION DEFAULT NULL, idempotency_key TEXT DEFAULT NULL, tags TEXT[] DEFAULT NULL,
    tracked BOOLEAN DEFAULT NULL,
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
        (id, destination_id, origin, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
         scheduled_from, schedule, stream_id, position, idempotency_key, tracked)
    SELECT id, known.id, CASE WHEN known.id IS NULL THEN place END, url, method, kind, content_type, headers, traceparent,
           length(body), now,
           CASE WHEN it.transport = 'ws'
                  OR EXISTS (SELECT FROM outspoken.deliveries AS before
                             WHERE before.stream_id = it.id AND before.state IN ('pending', 'leased'))
                THEN NULL ELSE greatest(now, due_at) END,
           CASE WHEN due_at IS NOT NULL THEN greatest(now, due_at) END,
           schedule, it.id, it.position, idempotency_key, CASE WHEN tracked THEN 1 ELSE 0 END
    FROM (SELECT) AS one LEFT JOIN outspoken.streams AS it ON it.key = stream
    LEFT JOIN outspoken.destinations AS known ON known.origin = place
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

CREATE FUNCTION outspoken.add_v2(
    id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
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
    FROM outspoken.try_add_v2(id, url, body, method, kind, content_type, headers, traceparent, schedule, stream, on_dead,
                              live_until, producer, due_at, idempotency_key, tags, tracked);
    PERFORM outspoken.raise(said.refusal, said.message);
    RETURN said.id;
END
$$;

CREATE OR REPLACE FUNCTION outspoken.try_add_v1(
    id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
    traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
    stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT said.refusal, said.message INTO refusal, message
    FROM outspoken.try_add_v2(id, url, body, method, kind, content_type, headers, traceparent, schedule, stream, on_dead,
                              live_until, producer) AS said;
END
$$;

-- A stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.
CREATE OR REPLACE FUNCTION outspoken.try_begin_stream_v1(
    stream TEXT, url TEXT, headers JSON DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    place TEXT;
BEGIN
    headers := coalesce(headers, '{}');
    on_dead := coalesce(on_dead, 'skip');
    SELECT it.origin, 'url: ' || it.flaw INTO place, message FROM outspoken.read(url) AS it;
    message := coalesce(
        message, outspoken.flaw_of('stream', stream), outspoken.flaw_of(headers),
        outspoken.flaw_of_overlap(headers, url, traced => FALSE),
        CASE WHEN on_dead NOT IN ('skip', 'kill') THEN 'on_dead: expected "skip" or "kill"' END);
    IF message IS NOT NULL THEN
        refusal := 'invalid_delivery';
        RETURN;
    END IF;
    SELECT it.refusal, it.message INTO refusal, message
    FROM outspoken.join_stream(stream, split_part(place, ':', 1), url, headers, on_dead, live_until, producer, 0) AS it;
END
$$;

-- A batch: all of it or nothing. Arrays of equal length, one element for each delivery; NULL for an array is NULL for each.
-- Answers with the ids, as `try_add_v2` does one by one, or with what is wrong and where: `place` counts from 0.
CREATE FUNCTION outspoken.try_add_many_v1(
    INOUT ids TEXT[], urls TEXT[], bodies BYTEA[],
    methods TEXT[] DEFAULT NULL, kinds TEXT[] DEFAULT NULL, content_types TEXT[] DEFAULT NULL,
    headers TEXT[] DEFAULT NULL, traceparents TEXT[] DEFAULT NULL, schedules TEXT[] DEFAULT NULL,
    due_ats DOUBLE PRECISION[] DEFAULT NULL, idempotency_keys TEXT[] DEFAULT NULL,
    tags TEXT[] DEFAULT NULL, tracked BOOLEAN[] DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT, OUT place INTEGER
) LANGUAGE plpgsql AS $$
DECLARE
    said RECORD;
    kept TEXT[] := '{}';
BEGIN
    FOR at IN 1..coalesce(cardinality(ids), 0) LOOP
        SELECT * INTO said
        FROM outspoken.add(  -- as the next migration calls what is in try_add_v2
            ids[at], urls[at], bodies[at], methods[at], kinds[at], content_types[at],
            headers => CAST(headers[at] AS JSON), traceparent => traceparents[at], schedule => schedules[at],
            due_at => due_ats[at], idempotency_key => idempotency_keys[at],
            tags => CASE WHEN tags[at] IS NOT NULL
                    THEN ARRAY(SELECT one FROM json_array_elements_text(CAST(tags[at] AS JSON)) AS one) END,
            tracked => tracked[at]);
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

-- Give a delivery up that is pending; whether it was. In a stream the next one may go.
CREATE FUNCTION outspoken.cancel_v1(id TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    now    CONSTANT DOUBLE PRECISION := extract(epoch FROM clock_timestamp());
    stream BIGINT;
    ended  BOOLEAN;
BEGIN
    SELECT it.stream_id INTO stream FROM outspoken.deliveries AS it WHERE it.id = id;
    PERFORM FROM outspoken.streams AS it WHERE it.id = stream FOR NO KEY UPDATE;  -- before the delivery, as everybody does
    UPDATE outspoken.deliveries AS it SET state = 'cancelled', finished_at = now WHERE it.id = id AND it.state = 'pending';
    ended := FOUND;
    IF ended AND stream IS NOT NULL THEN
        UPDATE outspoken.deliveries AS it SET due_at = now
        FROM outspoken.streams AS one
        WHERE one.id = stream AND one.transport = 'http' AND it.due_at IS NULL AND it.seq = (
            SELECT next.seq FROM outspoken.deliveries AS next
            WHERE next.stream_id = stream AND next.state IN ('pending', 'leased') ORDER BY next.position LIMIT 1);
    END IF;
    RETURN ended;
END
$$;

-- The ids of some tracked deliveries that have ended, each given out once, as far as the caller's transaction commits. What
-- another transaction is about to take is left to it.
CREATE FUNCTION outspoken.take_ended_v1(most INTEGER DEFAULT 100) RETURNS SETOF TEXT LANGUAGE sql AS $$
    WITH taken AS (
        DELETE FROM outspoken.ends WHERE seq IN (
            SELECT seq FROM outspoken.ends ORDER BY seq LIMIT most FOR UPDATE SKIP LOCKED)
        RETURNING seq)
    SELECT it.id FROM taken JOIN outspoken.deliveries AS it ON it.seq = taken.seq
    WHERE it.finished_at IS NOT NULL ORDER BY it.finished_at, it.seq
$$;

-- What became of deliveries, as long as they are kept, and of the last attempt at each. No URL and no header: they hold
-- secrets.
CREATE VIEW outspoken.deliveries_v2 AS
SELECT it.id, coalesce(place.origin, it.origin) AS destination, it.state, it.reason, it.attempts,
       to_timestamp(it.created_at) AS created_at, to_timestamp(it.due_at) AS due_at,
       to_timestamp(it.finished_at) AS finished_at, stream.key AS stream, it.position, it.idempotency_key,
       ARRAY(SELECT each.tag FROM outspoken.tags AS each WHERE each.seq = it.seq ORDER BY each.tag) AS tags,
       last.status AS last_status, last.outcome AS last_outcome, last.detail AS diagnosis
FROM outspoken.deliveries AS it LEFT JOIN outspoken.destinations AS place ON place.id = it.destination_id
LEFT JOIN outspoken.streams AS stream ON stream.id = it.stream_id
LEFT JOIN LATERAL (SELECT each.status, each.outcome, each.detail FROM outspoken.attempts AS each
                   WHERE each.seq = it.seq ORDER BY each.number DESC LIMIT 1) AS last ON TRUE;

-- Every name above is written with its schema: whatever their caller calls by the same names is another's.
DO $$
DECLARE
    one REGPROCEDURE;
BEGIN
    FOR one IN SELECT oid FROM pg_proc
               WHERE pronamespace = CAST('outspoken' AS REGNAMESPACE) AND proname ~ '_v[0-9]+$' LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp', one);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
    END LOOP;
END
$$;
