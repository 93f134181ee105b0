-- Who adds to a stream waits for nobody. A delivery is given its place in its stream in the moment in which its transaction
-- commits, and the row of the stream is locked for no longer: numbers have no gaps, and are in the order of the commits. Up
-- to then what was said of the stream stands beside the delivery. A transaction that is rolled back had no place.
CREATE UNLOGGED TABLE outspoken.joining (
    transaction XID8   NOT NULL DEFAULT pg_current_xact_id(),
    stream      TEXT   NOT NULL,
    seq         BIGINT NOT NULL,  -- of the delivery
    on_dead     TEXT   NOT NULL,
    transport   TEXT   NOT NULL,
    url         TEXT,
    headers     JSON   NOT NULL,
    live_until  DOUBLE PRECISION,
    producer    TEXT,
    PRIMARY KEY (transaction, stream, seq)
);

-- What a stream is by its URL: one socket leads to one place.
CREATE FUNCTION outspoken.target(scheme TEXT, INOUT url TEXT, OUT transport TEXT) LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN scheme IN ('ws', 'wss') THEN url END, CASE WHEN scheme IN ('ws', 'wss') THEN 'ws' ELSE 'http' END
$$;

-- The headers with which its socket is opened; there are none without one.
CREATE FUNCTION outspoken.handshake(scheme TEXT, headers JSON, traceparent TEXT) RETURNS JSON LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN scheme NOT IN ('ws', 'wss') THEN '{}'
        WHEN coalesce(traceparent, '') = '' THEN headers
        ELSE (SELECT json_object_agg(it.key, it.value ORDER BY it.place)
              FROM (SELECT 'traceparent' AS key, traceparent AS value, 0 AS place
                    UNION ALL SELECT one.key, one.value, one.place
                    FROM json_each_text(headers) WITH ORDINALITY AS one (key, value, place)) AS it)
    END
$$;

-- Why nothing can be added to a stream, as it stands or as the same transaction is about to make it; NULL if it can.
CREATE FUNCTION outspoken.why_not(stream TEXT, scheme TEXT, stream_url TEXT, OUT refusal TEXT, OUT message TEXT)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    wanted RECORD;
    one    RECORD;
BEGIN
    IF scheme IN ('ws', 'wss') AND (stream !~ '^[ -~]*$' COLLATE "C" OR stream ~ '^ | $') THEN
        refusal := 'invalid_delivery';
        message := 'stream: expected printable ASCII, without spaces around it: the handshake of a WebSocket sends it';
        RETURN;
    END IF;
    SELECT * INTO wanted FROM outspoken.target(scheme, stream_url);
    SELECT it.state, it.transport = wanted.transport AND it.url IS NOT DISTINCT FROM wanted.url AS same INTO one
    FROM (SELECT each.state, each.transport, each.url FROM outspoken.streams AS each WHERE each.key = stream
          UNION ALL SELECT 'open', each.transport, each.url FROM outspoken.joining AS each
          WHERE each.transaction = pg_current_xact_id_if_assigned() AND each.stream = why_not.stream) AS it LIMIT 1;
    IF NOT one.same THEN
        refusal := 'invalid_delivery';
        message := format('stream: %s leads to another URL: one socket, one place', stream);
    ELSIF one.state = 'killed' THEN
        refusal := 'stream_killed';
        message := format('stream %s was killed: nothing can be added to it', stream);
    ELSIF one.state <> 'open' THEN
        refusal := 'stream_ended';
        message := format('stream %s has ended: nothing can be added to it', stream);
    END IF;
END
$$;

-- Give what this transaction has added its places. Streams that are new are numbered as they appeared, made in the order of
-- their keys, and all are locked in the order in which everybody locks them. What was killed meanwhile, or whose socket is
-- closed, or leads elsewhere, takes nothing more: what was to go there is dead. One of requests that was ended meanwhile
-- goes on.
CREATE FUNCTION outspoken.place() RETURNS void LANGUAGE plpgsql
-- By indexes alone: nothing is known of a table that is always empty, and what is guessed of deliveries may be old.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    now  CONSTANT DOUBLE PRECISION := extract(epoch FROM clock_timestamp());
    mine CONSTANT XID8 := pg_current_xact_id();
    ids  BIGINT[];
BEGIN
    INSERT INTO outspoken.streams (id, key, on_dead, transport, url, headers) OVERRIDING SYSTEM VALUE
    SELECT fresh.id, fresh.stream, fresh.on_dead, fresh.transport, fresh.url, fresh.headers
    FROM (SELECT nextval(pg_get_serial_sequence('outspoken.streams', 'id')) AS id, first.*
          FROM (SELECT DISTINCT ON (one.stream) one.* FROM outspoken.joining AS one
                WHERE one.transaction = mine AND NOT EXISTS (SELECT FROM outspoken.streams AS it WHERE it.key = one.stream)
                ORDER BY one.stream, one.seq) AS first
          ORDER BY first.seq) AS fresh
    ORDER BY fresh.stream
    ON CONFLICT (key) DO NOTHING;
    ids := ARRAY(SELECT it.id FROM outspoken.streams AS it
                 WHERE it.key IN (SELECT one.stream FROM outspoken.joining AS one WHERE one.transaction = mine)
                 ORDER BY it.id FOR NO KEY UPDATE);

    UPDATE outspoken.deliveries AS it
    SET stream_id = line.id, position = line.position, state = CASE WHEN line.fits THEN 'pending' ELSE 'dead' END,
        due_at = CASE WHEN line.waits THEN NULL ELSE it.due_at END, lane = CASE WHEN line.waits THEN 2 ELSE it.lane END,
        reason = CASE WHEN NOT line.fits THEN 'stream_killed' END, finished_at = CASE WHEN NOT line.fits THEN now END
    FROM (SELECT one.seq, stream.id, one.fits,
                 stream.position + row_number() OVER (PARTITION BY stream.id ORDER BY one.seq) AS position,
                 one.fits AND (stream.transport = 'ws' OR row_number() OVER (PARTITION BY stream.id ORDER BY one.seq) > 1
                               OR EXISTS (SELECT FROM outspoken.deliveries AS before
                                          WHERE before.stream_id = stream.id AND before.state IN ('pending', 'leased')))
                 AS waits
          FROM outspoken.streams AS stream,
               LATERAL (SELECT each.seq, stream.transport = each.transport AND stream.url IS NOT DISTINCT FROM each.url
                               AND stream.state <> 'killed' AND (stream.state <> 'closed' OR stream.transport = 'http')
                               AS fits
                        FROM outspoken.joining AS each JOIN outspoken.deliveries AS there ON there.seq = each.seq
                        WHERE each.transaction = mine AND each.stream = stream.key AND there.state = 'pending') AS one
          WHERE stream.id = ANY (ids)) AS line
    WHERE it.seq = line.seq;

    UPDATE outspoken.streams AS it
    SET position = it.position + added.count, producer = coalesce(added.producer, it.producer),
        producer_until = CASE WHEN it.state = 'open' THEN greatest(it.producer_until, added.live_until)
                         ELSE it.producer_until END,
        state = CASE WHEN it.state = 'closed' AND it.transport = 'http' THEN 'ended' ELSE it.state END,
        finished_at = CASE WHEN it.state = 'closed' AND it.transport = 'http' THEN NULL ELSE it.finished_at END
    FROM (SELECT one.stream, count(there.seq) AS count, max(one.live_until) AS live_until,
                 (array_agg(one.producer ORDER BY one.seq DESC) FILTER (WHERE one.producer IS NOT NULL))[1] AS producer
          FROM outspoken.joining AS one
          LEFT JOIN outspoken.deliveries AS there ON there.seq = one.seq AND there.stream_id IS NOT NULL
          WHERE one.transaction = mine GROUP BY one.stream) AS added
    WHERE it.id = ANY (ids) AND it.key = added.stream;
    DELETE FROM outspoken.joining AS one WHERE one.transaction = mine;
END
$$;

-- Before its commit, for what needs to see it.
CREATE FUNCTION outspoken.place_now() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM outspoken.joining AS one WHERE one.transaction = pg_current_xact_id_if_assigned()) THEN
        PERFORM outspoken.place();
    END IF;
END
$$;

CREATE FUNCTION outspoken.place_at_commit() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM outspoken.joining AS one
               WHERE one.transaction = NEW.transaction AND one.stream = NEW.stream AND one.seq = NEW.seq) THEN
        PERFORM outspoken.place();
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER place AFTER INSERT ON outspoken.joining DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION outspoken.place_at_commit();

-- One result for one callback URL: there when the caller's transaction commits, and not before. `id` becomes the one under
-- which it is kept: the given one, or that of the first delivery under the same idempotency key, and then nothing is added.
CREATE OR REPLACE FUNCTION outspoken.add(
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
        SELECT it.refusal, it.message INTO refusal, message FROM outspoken.why_not(stream, scheme, url) AS it;
        IF refusal IS NOT NULL THEN
            SELECT * INTO first FROM outspoken.added_before(idempotency_key, url, method, content_type, body);
            IF NOT first.differs THEN
                SELECT first.id, NULL, NULL INTO id, refusal, message;
            END IF;
            RETURN;
        END IF;
    END IF;

    -- One of a stream is given its place when the transaction commits. Until then nobody else sees it.
    INSERT INTO outspoken.deliveries
        (id, owner, origin, path, url, method, kind, priority, content_type, headers, traceparent, body_bytes, created_at,
         due_at, lane, scheduled_from, schedule, idempotency_key, tracked)
    VALUES (id, owner, place, outspoken.path_of(url), url, method, kind, priority, content_type, headers, traceparent,
            length(body), now, greatest(now, due_at), CASE WHEN due_at > now THEN 2 ELSE 0 END,
            CASE WHEN due_at IS NOT NULL THEN greatest(now, due_at) END,
            schedule, idempotency_key, CASE WHEN tracked THEN 1 ELSE 0 END)
    ON CONFLICT DO NOTHING
    RETURNING seq INTO number;
    IF number IS NULL THEN
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
    IF stream IS NOT NULL THEN
        INSERT INTO outspoken.joining (stream, seq, on_dead, transport, url, headers, live_until, producer)
        SELECT stream, number, on_dead, it.transport, it.url, outspoken.handshake(scheme, headers, traceparent), live_until,
               producer
        FROM outspoken.target(scheme, url) AS it;
    END IF;
    IF tags IS NOT NULL THEN
        INSERT INTO outspoken.tags (seq, tag) SELECT DISTINCT number, one FROM unnest(tags) AS one;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION outspoken.end_stream_v1(stream TEXT) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM outspoken.place_now();
    PERFORM FROM outspoken.streams AS it WHERE it.key = stream FOR NO KEY UPDATE;
    UPDATE outspoken.streams AS it
    SET producer_until = NULL, state = CASE WHEN last.busy THEN 'ended' ELSE 'closed' END,
        finished_at = CASE WHEN NOT last.busy THEN extract(epoch FROM clock_timestamp()) END
    FROM (SELECT one.id, one.transport = 'ws' OR EXISTS (
              SELECT FROM outspoken.deliveries AS each
              WHERE each.stream_id = one.id AND each.state IN ('pending', 'leased')) AS busy
          FROM outspoken.streams AS one WHERE one.key = stream) AS last
    WHERE it.id = last.id AND it.state = 'open';
END
$$;

-- Their producer lives. Locked in the order in which everybody locks streams.
CREATE OR REPLACE FUNCTION outspoken.keep_streams_v1(keys TEXT[], until DOUBLE PRECISION) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    numbers BIGINT[];
BEGIN
    PERFORM outspoken.place_now();
    numbers := ARRAY(SELECT it.id FROM outspoken.streams AS it WHERE it.key = ANY (keys)
                     ORDER BY it.id FOR NO KEY UPDATE);
    UPDATE outspoken.streams AS it SET producer_until = until
    WHERE it.id = ANY (numbers) AND it.state = 'open' AND it.producer_until < until;
END
$$;
