-- No producer waits for another: the row of a destination is made by the relay that routes its first deliveries. Made by a
-- producer, it would be locked until that one's transaction ends, and two producers with two new destinations in opposite
-- order would wait for each other for good. Who finds a destination uses it, and nobody else has to route anything.
ALTER TABLE deliveries
    ALTER COLUMN destination_id DROP NOT NULL,
    ADD COLUMN origin TEXT,  -- of a delivery that is yet to be routed
    ADD CONSTRAINT deliveries_routed CHECK ((destination_id IS NULL) = (origin IS NOT NULL)),
    ADD CONSTRAINT deliveries_leased_are_routed CHECK (state <> 'leased' OR destination_id IS NOT NULL);
CREATE INDEX deliveries_unrouted ON deliveries (seq) WHERE destination_id IS NULL;

-- One result for one callback URL: there when the caller's transaction commits, and not before.
CREATE OR REPLACE FUNCTION outspoken_try_add_v1(
    id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
    traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
    stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    now       CONSTANT DOUBLE PRECISION := extract(epoch FROM clock_timestamp());
    place     TEXT;
    scheme    TEXT;
    handshake JSON;
    number    BIGINT;
BEGIN
    method := coalesce(method, 'POST');
    kind := coalesce(kind, 'final');
    content_type := coalesce(content_type, 'application/json');
    headers := coalesce(headers, '{}');
    on_dead := coalesce(on_dead, 'skip');
    SELECT it.origin, 'url: ' || it.flaw INTO place, message FROM outspoken_read(url) AS it;
    scheme := split_part(place, ':', 1);
    message := CASE
        WHEN message IS NOT NULL THEN message
        WHEN outspoken_flaw_of('id', id) IS NOT NULL THEN outspoken_flaw_of('id', id)
        WHEN stream IS NOT NULL AND outspoken_flaw_of('stream', stream) IS NOT NULL THEN outspoken_flaw_of('stream', stream)
        WHEN schedule NOT IN ('fixed', 'exponential') THEN 'schedule: expected "fixed", "exponential" or None'
        WHEN method NOT IN ('POST', 'PUT') THEN 'method: expected "POST" or "PUT"'
        WHEN kind NOT IN ('final', 'partial', 'error') THEN 'kind: expected "final", "partial" or "error"'
        WHEN on_dead NOT IN ('skip', 'kill') THEN 'on_dead: expected "skip" or "kill"'
        WHEN body IS NULL THEN 'body: expected bytes'
        WHEN scheme IN ('ws', 'wss') AND stream IS NULL
        THEN 'stream: a delivery to a WebSocket is one message of a stream: name it'
        WHEN scheme IN ('ws', 'wss') AND NOT outspoken_is_text(body)
        THEN 'body: a WebSocket''s message is text: it has to be UTF-8'
        ELSE outspoken_flaw_of(headers)
    END;
    IF message IS NOT NULL THEN
        refusal := 'invalid_delivery';
        RETURN;
    END IF;

    IF stream IS NOT NULL THEN
        handshake := headers;
        IF traceparent <> '' AND headers -> 'traceparent' IS NULL THEN
            SELECT json_object_agg(it.key, it.value ORDER BY it.place) INTO handshake
            FROM (SELECT 'traceparent' AS key, traceparent AS value, 0 AS place
                  UNION ALL SELECT one.key, one.value, one.place
                  FROM json_each_text(headers) WITH ORDINALITY AS one (key, value, place)) AS it;
        END IF;
        SELECT it.refusal, it.message INTO refusal, message
        FROM outspoken_join(stream, scheme, url, handshake, on_dead, live_until, producer, 1) AS it;
        IF refusal IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;

    -- Due at once, or when the one before it in its stream has ended; the messages of a WebSocket are never due: whoever
    -- holds the socket reads them in order. The row of the stream is locked by now, so that what went on in it is seen.
    INSERT INTO deliveries
        (id, destination_id, origin, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
         schedule, stream_id, position)
    SELECT id, known.id, CASE WHEN known.id IS NULL THEN place END, url, method, kind, content_type, headers, traceparent, length(body), now,
           CASE WHEN it.transport = 'ws'
                  OR EXISTS (SELECT FROM deliveries AS before
                             WHERE before.stream_id = it.id AND before.state IN ('pending', 'leased'))
                THEN NULL ELSE now END,
           schedule, it.id, it.position
    FROM (SELECT) AS one LEFT JOIN streams AS it ON it.key = stream LEFT JOIN destinations AS known ON known.origin = place
    ON CONFLICT ON CONSTRAINT deliveries_id_key DO NOTHING
    RETURNING deliveries.seq INTO number;
    IF number IS NULL THEN
        UPDATE streams AS it SET position = it.position - 1 WHERE it.key = stream;
        refusal := 'duplicate_delivery';
        message := format('delivery %s is in the outbox already', id);
        RETURN;
    END IF;
    INSERT INTO bodies (seq, body) VALUES (number, body);
END
$$;

-- A stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.
CREATE OR REPLACE FUNCTION outspoken_try_begin_stream_v1(
    stream TEXT, url TEXT, headers JSON DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    place TEXT;
BEGIN
    headers := coalesce(headers, '{}');
    on_dead := coalesce(on_dead, 'skip');
    SELECT it.origin, 'url: ' || it.flaw INTO place, message FROM outspoken_read(url) AS it;
    message := coalesce(
        message, outspoken_flaw_of('stream', stream), outspoken_flaw_of(headers),
        CASE WHEN on_dead NOT IN ('skip', 'kill') THEN 'on_dead: expected "skip" or "kill"' END);
    IF message IS NOT NULL THEN
        refusal := 'invalid_delivery';
        RETURN;
    END IF;
    SELECT it.refusal, it.message INTO refusal, message
    FROM outspoken_join(stream, split_part(place, ':', 1), url, headers, on_dead, live_until, producer, 0) AS it;
END
$$;

DROP FUNCTION outspoken_destination(TEXT);

-- What became of deliveries, as long as they are kept. No URL and no header: they hold secrets.
CREATE OR REPLACE VIEW outspoken_deliveries_v1 AS
SELECT deliveries.id, coalesce(destinations.origin, deliveries.origin) AS destination, deliveries.state, deliveries.reason, deliveries.attempts,
       to_timestamp(deliveries.created_at) AS created_at, to_timestamp(deliveries.due_at) AS due_at,
       to_timestamp(deliveries.finished_at) AS finished_at, streams.key AS stream, deliveries.position
FROM deliveries LEFT JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN streams ON streams.id = deliveries.stream_id;

-- As those that they replace: the tables that they work on are these, whatever their caller calls by the same names.
DO $$
DECLARE
    one REGPROCEDURE;
BEGIN
    FOR one IN SELECT oid FROM pg_proc
               WHERE pronamespace = CAST(current_schema() AS REGNAMESPACE)
                 AND proname IN ('outspoken_try_add_v1', 'outspoken_try_begin_stream_v1') LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', one, current_schema());
    END LOOP;
END
$$;
