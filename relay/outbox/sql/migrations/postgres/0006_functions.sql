-- What producers call, the same for every language: functions and views whose names end in a version, and which stay as
-- they are; what has to be different comes as a _v2 beside them.
--
-- `outspoken.add_v1` and `outspoken.begin_stream_v1` raise what is wrong, and so end the caller's transaction. Their
-- siblings, `outspoken.try_...`, answer with it instead (both NULL: done) and leave the transaction as good as it was.
--
-- They run with the rights of their owner, so that who may execute them need not see a table, or a signing key.

-- The one canonical spelling of an IPv6 address (RFC 5952, hexadecimal to the end); NULL for what is none.
CREATE FUNCTION outspoken.ipv6(address TEXT) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    octet  CONSTANT TEXT := '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])';
    dotted CONSTANT INTEGER[] := (regexp_match(address, format('^.*:%1$s\.%1$s\.%1$s\.%1$s$', octet)))::INTEGER[];
    high   TEXT[];
    low    TEXT[];
    zeros  INTEGER;
    text   TEXT;
BEGIN
    IF dotted IS NOT NULL THEN
        address := regexp_replace(address, '[^:]*$', '') || to_hex(dotted[1] * 256 + dotted[2]) || ':'
                   || to_hex(dotted[3] * 256 + dotted[4]);
    END IF;
    IF address !~ '^[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,8}$' OR address ~ ':::|::.*::' THEN
        RETURN NULL;
    END IF;
    high := string_to_array(split_part(address, '::', 1), ':');
    low := string_to_array(split_part(address, '::', 2), ':');
    zeros := 8 - cardinality(high) - cardinality(low);
    IF '' = ANY (high || low) OR (zeros > 0) <> (address ~ '::') OR zeros < 0 THEN
        RETURN NULL;
    END IF;
    SELECT ':' || string_agg(coalesce(nullif(ltrim(word, '0'), ''), '0'), ':' ORDER BY place) || ':' INTO text
    FROM unnest(high || array_fill(CAST('0' AS TEXT), ARRAY[zeros]) || low) WITH ORDINALITY AS words (word, place);
    FOR run IN REVERSE 8..2 LOOP  -- the longest run of zeros, the first of several
        IF position(repeat(':0', run) || ':' IN text) > 0 THEN
            text := overlay(text PLACING '::' FROM position(repeat(':0', run) || ':' IN text) FOR 2 * run + 1);
            EXIT;
        END IF;
    END LOOP;
    RETURN regexp_replace(regexp_replace(text, '^:(?!:)', ''), '(?<!:):$', '');
END
$$;

-- The origin that a callback URL names, or what is wrong with the URL: what relay.policy.destination reads, in the same
-- order and the same words. Whether the URL may be called is asked at every attempt, by the relay.
CREATE FUNCTION outspoken.read(url TEXT, OUT origin TEXT, OUT flaw TEXT) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    safe      CONSTANT INTEGER := length(substring(url FROM '^[!-[\]-~]*'));
    scheme    CONSTANT TEXT := lower(split_part(url, ':', 1) COLLATE "C");
    authority CONSTANT TEXT := substring(url FROM '^[^:]*://([^/?#]*)');
    userinfo  CONSTANT TEXT := substring(authority FROM '^(.*)@');
    place     CONSTANT TEXT := lower(regexp_replace(authority, '^.*@', '') COLLATE "C");
    host      TEXT;
    port      TEXT := substring(place FROM '^[^:]*:(.*)$');
    numeric   BOOLEAN := FALSE;
    label     CONSTANT TEXT := '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?';
    next      CONSTANT TEXT := '%[89ab][0-9a-f]';  -- another byte of a character in UTF-8
BEGIN
    IF url IS NULL THEN
        flaw := 'There is none. Name where the result goes.';
    ELSIF length(url) > 65536 THEN
        flaw := 'The URL is longer than 65536 bytes. Shorten its path or query.';
    ELSIF safe < length(url) THEN
        flaw := format('Character %s of the URL is a control character, a space, a backslash or not ASCII. '
                       'Percent-encode it; write an international host name in its xn-- form.', safe + 1);
    ELSIF url ~ '@.*@' OR url ~ '^[^/?#]*//[^/?#]*[?#].*@' THEN
        flaw := 'It is unclear where the host begins. Write every @ that does not end the credentials as %40.';
    ELSIF authority IS NULL OR scheme NOT IN ('http', 'https', 'ws', 'wss') THEN
        flaw := 'The URL must begin with http:// or https:// or ws:// or wss://.';
    END IF;
    IF flaw IS NOT NULL THEN
        RETURN;
    END IF;

    IF place LIKE '[%' THEN
        host := '[' || outspoken.ipv6(substring(place FROM '^\[([^]]*)\](?::|$)')) || ']';
        port := substring(place FROM '\]:(.*)$');
    ELSE
        host := regexp_replace(split_part(place, ':', 1), '\.$', '');
        numeric := host ~ '^(.*\.)?([0-9]+|0x[0-9a-f]*)$';
        IF NOT numeric AND (length(host) NOT BETWEEN 1 AND 253 OR host !~ format('^%1$s(\.%1$s)*$', label)) THEN
            host := NULL;
        END IF;
    END IF;
    IF host IS NULL THEN
        flaw := 'The host is neither a host name (letters, digits, hyphens and underscores; labels of 1 to 63 characters, '
                '253 in all) nor an IPv6 address in brackets without a zone. Write it plainly, without percent-encoding.';
    ELSIF userinfo !~* '^([a-z0-9._~!$&''()*+,;=:-]|%[0-9a-f]{2})+$' THEN
        flaw := 'The credentials before the @ are empty or hold a character that must be percent-encoded. '
                'Write them as user:password, percent-encoded.';
    ELSIF userinfo !~* replace('^([^%]|%[0-7][0-9a-f]|%(c[2-9a-f]|d[0-9a-f])t|%e0%[ab][0-9a-f]t|%e[1-9abcef]tt'
                               '|%ed%[89][0-9a-f]t|%f0%[9ab][0-9a-f]tt|%f[123]ttt|%f4%8[0-9a-f]tt)+$', 't', next) THEN
        flaw := 'The credentials before the @ are not UTF-8 once percent-decoded. '
                'Write them as user:password, percent-encoded.';
    ELSIF split_part(userinfo, ':', 1) ~* '%3a' THEN
        flaw := 'The credentials before the @ have a colon in the user name, which Basic authentication cannot carry. '
                'Write them as user:password, percent-encoded.';
    ELSIF userinfo ~* '%[01][0-9a-f]|%7f|%c2%[89]' THEN
        flaw := 'The credentials before the @ hold a control character, which Basic authentication cannot carry. '
                'Write them as user:password, percent-encoded.';
    ELSIF numeric AND host !~ '^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\.(?!$)|$)){4}$' THEN
        flaw := 'The host is an address in a spelling that programs read differently. Write an IPv4 address as four decimal '
                'numbers without leading zeros.';
    ELSIF port IS NOT NULL AND (port !~ '^[1-9][0-9]{0,4}$' OR lpad(port, 5, '0') COLLATE "C" > '65535') THEN
        flaw := 'The port is not one of those open to callbacks. Use one of 1 to 65535.';
    ELSE
        origin := scheme || '://' || host || ':'
                  || coalesce(port, CASE WHEN scheme IN ('https', 'wss') THEN '443' ELSE '80' END);
    END IF;
END
$$;

-- Whether some bytes are text in UTF-8. U+0000, which is, but which the server cannot keep in a text, is let through.
CREATE FUNCTION outspoken.is_text(body BYTEA) RETURNS BOOLEAN LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF position('\x00'::BYTEA IN body) > 0 THEN
        body := decode(replace(replace(encode(body, 'escape'), '\\', '_'), '\000', '_'), 'escape');
    END IF;
    PERFORM convert_from(body, 'UTF8');
    RETURN TRUE;
EXCEPTION WHEN character_not_in_repertoire THEN
    RETURN FALSE;
END
$$;

-- What is wrong with headers, NULL if nothing is.
CREATE FUNCTION outspoken.flaw_of(headers JSON) RETURNS TEXT LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    escapes CONSTANT TEXT := lower(replace(CAST(headers AS TEXT), '\\', '') COLLATE "C");  -- without escaped backslashes
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
    RETURN NULL;
END
$$;

-- What is wrong with a name, NULL if nothing is.
CREATE FUNCTION outspoken.flaw_of(field TEXT, name TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN coalesce(length(name), 0) NOT BETWEEN 1 AND 128
           THEN format('%s: expected 1 to 128 characters, got %s', field, coalesce(length(name), 0)) END
$$;

-- A stream appears with its first delivery, and counts what is added to it. Nothing joins one that has come to its end,
-- and one socket leads to one place.
CREATE FUNCTION outspoken.join_stream(
    stream TEXT, scheme TEXT, stream_url TEXT, handshake JSON, dead TEXT, live_until DOUBLE PRECISION, process TEXT,
    more INTEGER, OUT refusal TEXT, OUT message TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    socket CONSTANT BOOLEAN := scheme IN ('ws', 'wss');
    lead   CONSTANT TEXT := CASE WHEN socket THEN stream_url END;
    one    RECORD;
BEGIN
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

CREATE FUNCTION outspoken.raise(refusal TEXT, message TEXT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = message, CONSTRAINT = refusal, ERRCODE =
            CASE refusal WHEN 'invalid_delivery' THEN 'OS001' WHEN 'duplicate_delivery' THEN 'OS002'
                         WHEN 'stream_killed' THEN 'OS003' ELSE 'OS004' END;
    END IF;
END
$$;

-- One result for one callback URL: there when the caller's transaction commits, and not before.
CREATE FUNCTION outspoken.try_add_v1(
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
    SELECT it.origin, 'url: ' || it.flaw INTO place, message FROM outspoken.read(url) AS it;
    scheme := split_part(place, ':', 1);
    message := CASE
        WHEN message IS NOT NULL THEN message
        WHEN outspoken.flaw_of('id', id) IS NOT NULL THEN outspoken.flaw_of('id', id)
        WHEN stream IS NOT NULL AND outspoken.flaw_of('stream', stream) IS NOT NULL THEN outspoken.flaw_of('stream', stream)
        WHEN schedule NOT IN ('fixed', 'exponential') THEN 'schedule: expected "fixed", "exponential" or None'
        WHEN method NOT IN ('POST', 'PUT') THEN 'method: expected "POST" or "PUT"'
        WHEN kind NOT IN ('final', 'partial', 'error') THEN 'kind: expected "final", "partial" or "error"'
        WHEN on_dead NOT IN ('skip', 'kill') THEN 'on_dead: expected "skip" or "kill"'
        WHEN body IS NULL THEN 'body: expected bytes'
        WHEN scheme IN ('ws', 'wss') AND stream IS NULL
        THEN 'stream: a delivery to a WebSocket is one message of a stream: name it'
        WHEN scheme IN ('ws', 'wss') AND NOT outspoken.is_text(body)
        THEN 'body: a WebSocket''s message is text: it has to be UTF-8'
        ELSE outspoken.flaw_of(headers)
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
        FROM outspoken.join_stream(stream, scheme, url, handshake, on_dead, live_until, producer, 1) AS it;
        IF refusal IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;

    -- Due at once, or when the one before it in its stream has ended; the messages of a WebSocket are never due: whoever
    -- holds the socket reads them in order. The row of the stream is locked by now, so that what went on in it is seen.
    INSERT INTO outspoken.deliveries
        (id, destination_id, origin, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
         schedule, stream_id, position)
    SELECT id, known.id, CASE WHEN known.id IS NULL THEN place END, url, method, kind, content_type, headers, traceparent,
           length(body), now,
           CASE WHEN it.transport = 'ws'
                  OR EXISTS (SELECT FROM outspoken.deliveries AS before
                             WHERE before.stream_id = it.id AND before.state IN ('pending', 'leased'))
                THEN NULL ELSE now END,
           schedule, it.id, it.position
    FROM (SELECT) AS one LEFT JOIN outspoken.streams AS it ON it.key = stream
    LEFT JOIN outspoken.destinations AS known ON known.origin = place
    ON CONFLICT ON CONSTRAINT deliveries_id_key DO NOTHING
    RETURNING seq INTO number;
    IF number IS NULL THEN
        UPDATE outspoken.streams AS it SET position = it.position - 1 WHERE it.key = stream;
        refusal := 'duplicate_delivery';
        message := format('delivery %s is in the outbox already', id);
        RETURN;
    END IF;
    INSERT INTO outspoken.bodies (seq, body) VALUES (number, body);
END
$$;

CREATE FUNCTION outspoken.add_v1(
    id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
    traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
    stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outspoken.raise(said.refusal, said.message)
    FROM outspoken.try_add_v1(id, url, body, method, kind, content_type, headers, traceparent, schedule, stream, on_dead,
                              live_until, producer) AS said;
END
$$;

-- A stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.
CREATE FUNCTION outspoken.try_begin_stream_v1(
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
        CASE WHEN on_dead NOT IN ('skip', 'kill') THEN 'on_dead: expected "skip" or "kill"' END);
    IF message IS NOT NULL THEN
        refusal := 'invalid_delivery';
        RETURN;
    END IF;
    SELECT it.refusal, it.message INTO refusal, message
    FROM outspoken.join_stream(stream, split_part(place, ':', 1), url, headers, on_dead, live_until, producer, 0) AS it;
END
$$;

CREATE FUNCTION outspoken.begin_stream_v1(
    stream TEXT, url TEXT, headers JSON DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outspoken.raise(said.refusal, said.message)
    FROM outspoken.try_begin_stream_v1(stream, url, headers, on_dead, live_until, producer) AS said;
END
$$;

-- The last message is in. A stream of which nothing waits any more is closed at once; a WebSocket is closed by its holder.
-- Locked first, so that what ended meanwhile is seen.
CREATE FUNCTION outspoken.end_stream_v1(stream TEXT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
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
CREATE FUNCTION outspoken.keep_streams_v1(keys TEXT[], until DOUBLE PRECISION) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    numbers BIGINT[];
BEGIN
    numbers := ARRAY(SELECT it.id FROM outspoken.streams AS it WHERE it.key = ANY (keys)
                     ORDER BY it.id FOR NO KEY UPDATE);
    UPDATE outspoken.streams AS it SET producer_until = until
    WHERE it.id = ANY (numbers) AND it.state = 'open' AND it.producer_until < until;
END
$$;

-- How streams stand. A socket whose holder is overdue is gone with it, although nobody may have written that down yet.
CREATE VIEW outspoken.streams_v1 AS
SELECT key AS stream, CASE WHEN overdue THEN 'killed' ELSE state END AS state,
       CASE WHEN overdue THEN 'relay_gone' ELSE reason END AS reason,
       (SELECT count(*) FROM outspoken.deliveries AS each
        WHERE each.stream_id = it.id AND each.state IN ('pending', 'leased')) AS undelivered
FROM outspoken.streams AS it,
     LATERAL (SELECT coalesce(holder_until <= extract(epoch FROM clock_timestamp()), FALSE) AS overdue) AS holder;

-- What became of deliveries, as long as they are kept. No URL and no header: they hold secrets.
CREATE VIEW outspoken.deliveries_v1 AS
SELECT it.id, coalesce(place.origin, it.origin) AS destination, it.state, it.reason, it.attempts,
       to_timestamp(it.created_at) AS created_at, to_timestamp(it.due_at) AS due_at,
       to_timestamp(it.finished_at) AS finished_at, stream.key AS stream, it.position
FROM outspoken.deliveries AS it LEFT JOIN outspoken.destinations AS place ON place.id = it.destination_id
LEFT JOIN outspoken.streams AS stream ON stream.id = it.stream_id;

-- Whoever adds something, by whatever means, wakes the relays when it commits.
CREATE FUNCTION outspoken.notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outspoken', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER notify AFTER INSERT ON outspoken.deliveries FOR EACH STATEMENT EXECUTE FUNCTION outspoken.notify();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON outspoken.streams
    FOR EACH STATEMENT EXECUTE FUNCTION outspoken.notify();

-- Every name above is written with its schema: whatever their caller calls by the same names is another's.
DO $$
DECLARE
    one REGPROCEDURE;
BEGIN
    FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = CAST('outspoken' AS REGNAMESPACE) AND proname ~ '_v1$' LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp', one);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
    END LOOP;
END
$$;
