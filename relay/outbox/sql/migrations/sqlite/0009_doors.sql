-- What programs in every language do with SQL alone: an INSERT into one of these views, in their own transaction, is a
-- call of a function. Names that end in a version stay as they are; what has to change comes as a _v2 beside them.
--
-- What is refused is an error of the statement, and leaves the transaction as good as it was: `outspoken: `, the kind
-- of refusal, and what is wrong, in literals, because SQLite raises nothing else. What SQL cannot judge is refused.
-- LIMIT 1 and LIMIT -1 keep SQLite from working an expression out again wherever it is used; a trigger has no WITH.

-- One result for one callback URL: there when the caller's transaction commits, and not before.
CREATE VIEW outspoken_add_v1 AS
SELECT NULL AS id, NULL AS url, NULL AS body, NULL AS method, NULL AS kind, NULL AS content_type, NULL AS headers,
       NULL AS traceparent, NULL AS schedule, NULL AS stream, NULL AS on_dead, NULL AS live_until, NULL AS producer
LIMIT 0;

-- A stream before its first delivery: to ws and wss its socket is opened as soon as this is committed.
CREATE VIEW outspoken_begin_stream_v1 AS
SELECT NULL AS stream, NULL AS url, NULL AS headers, NULL AS on_dead, NULL AS live_until, NULL AS producer LIMIT 0;

-- The last message is in.
CREATE VIEW outspoken_end_stream_v1 AS SELECT NULL AS stream LIMIT 0;

-- The producer of a stream lives.
CREATE VIEW outspoken_keep_stream_v1 AS SELECT NULL AS stream, NULL AS until LIMIT 0;

-- What became of deliveries, as long as they are kept. No URL and no header: they hold secrets.
CREATE VIEW outspoken_deliveries_v1 AS
SELECT it.id, place.origin AS destination, it.state, it.reason, it.attempts,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.created_at, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.due_at, 'unixepoch') AS due_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.finished_at, 'unixepoch') AS finished_at, stream.key AS stream, it.position
FROM outspoken_deliveries AS it JOIN outspoken_destinations AS place ON place.id = it.destination_id
LEFT JOIN outspoken_streams AS stream ON stream.id = it.stream_id;

-- How streams stand. A socket whose holder is overdue is gone with it, although nobody may have written that down yet.
CREATE VIEW outspoken_streams_v1 AS
SELECT key AS stream, iif(overdue, 'killed', state) AS state, iif(overdue, 'relay_gone', reason) AS reason,
       (SELECT count(*) FROM outspoken_deliveries AS each
        WHERE each.stream_id = it.id AND each.state IN ('pending', 'leased')) AS undelivered
FROM (SELECT *, coalesce(holder_until <= (julianday('now') - 2440587.5) * 86400.0, FALSE) AS overdue
      FROM outspoken_streams) AS it;

-- What is handed in as a text is one, whoever reads it. SQLite keeps whatever bytes it is given for a text; each of its
-- characters is made anew from its number here, and one that is no UTF-8 becomes another.
CREATE VIEW outspoken_texts AS SELECT NULL AS field, NULL AS value LIMIT 0;
CREATE TRIGGER outspoken_texts INSTEAD OF INSERT ON outspoken_texts WHEN NEW.value IS NOT NULL BEGIN
    SELECT CASE NEW.field
        WHEN 'url' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: url: expected text, in UTF-8 and without U+0000')
        WHEN 'id' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: id: expected text, in UTF-8 and without U+0000')
        WHEN 'content_type' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: content_type: expected text, in UTF-8 and without U+0000')
        WHEN 'traceparent' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: traceparent: expected text, in UTF-8 and without U+0000')
        WHEN 'stream' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: stream: expected text, in UTF-8 and without U+0000')
        WHEN 'producer' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: producer: expected text, in UTF-8 and without U+0000')
        WHEN 'headers' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: headers: expected text, in UTF-8 and without U+0000')
        WHEN 'body' THEN RAISE(
            ABORT, 'outspoken: invalid_delivery: body: a WebSocket''s message is text: in UTF-8, here without U+0000')
    END
    WHERE typeof(NEW.value) <> 'text' OR instr(CAST(NEW.value AS BLOB), x'00') OR EXISTS (
        SELECT 1 FROM
            (SELECT substr(NEW.value, 256 * key + 1, 256) AS some
             FROM json_each('[' || replace(hex(zeroblob(length(NEW.value) / 256)), '00', '0,') || '0]')
             LIMIT -1) AS block,
            (SELECT key AS place FROM json_each('[' || replace(hex(zeroblob(255)), '00', '0,') || '0]') LIMIT -1)
        WHERE block.some GLOB '*[^ -~]*' AND place < length(block.some)
          AND char(unicode(substr(block.some, place + 1, 1))) <> substr(block.some, place + 1, 1)
          AND hex(substr(block.some, place + 1, 1)) NOT IN ('EFBFBE', 'EFBFBF'));  -- SQLite takes these two for none
END;

-- Everything that is asked for and has a URL, and what is plainly wrong with it. `act` is add or begin.
CREATE VIEW outspoken_asked AS SELECT NULL AS act, * FROM outspoken_add_v1;
CREATE TRIGGER outspoken_add_v1 INSTEAD OF INSERT ON outspoken_add_v1 BEGIN
    INSERT INTO outspoken_asked
    VALUES ('add', NEW.id, NEW.url, NEW.body, coalesce(NEW.method, 'POST'), coalesce(NEW.kind, 'final'),
            coalesce(NEW.content_type, 'application/json'), coalesce(NEW.headers, '{}'), NEW.traceparent, NEW.schedule,
            NEW.stream, coalesce(NEW.on_dead, 'skip'), NEW.live_until, NEW.producer);
END;
CREATE TRIGGER outspoken_begin_stream_v1 INSTEAD OF INSERT ON outspoken_begin_stream_v1 BEGIN
    INSERT INTO outspoken_asked (act, url, headers, stream, on_dead, live_until, producer)
    VALUES ('begin', NEW.url, coalesce(NEW.headers, '{}'), coalesce(NEW.stream, ''), coalesce(NEW.on_dead, 'skip'),
            NEW.live_until, NEW.producer);
END;

-- The one place where a URL is read: its scheme, its origin and whether it has credentials, as relay.guard.url reads
-- them, or a refusal. Whether the URL may be called is asked at every attempt, by the relay.
CREATE VIEW outspoken_placed AS SELECT NULL AS scheme, NULL AS credentials, NULL AS origin, * FROM outspoken_asked;
CREATE TRIGGER outspoken_asked INSTEAD OF INSERT ON outspoken_asked BEGIN
    SELECT RAISE(ABORT, 'outspoken: this file keeps text in UTF-16, which is not read here: make one in UTF-8')
    WHERE length(CAST('a' AS BLOB)) <> 1;
    INSERT INTO outspoken_texts
    VALUES ('url', NEW.url), ('id', NEW.id), ('content_type', NEW.content_type), ('traceparent', NEW.traceparent),
           ('headers', NEW.headers), ('stream', NEW.stream), ('producer', NEW.producer);
    SELECT CASE
        WHEN coalesce(NEW.url, '') = ''
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: url: there is none: name where the result goes')
        WHEN length(NEW.url) > 65536
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: url: longer than 65536 bytes: shorten its path or query')
        WHEN NEW.url GLOB '*[^!-~]*' OR instr(NEW.url, '\')
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: url: expected ASCII: percent-encode what is not, and spaces and backslashes')
    END;
    INSERT INTO outspoken_placed
    SELECT
        scheme, userinfo IS NOT NULL,
        CASE
            WHEN scheme NOT IN ('http', 'https', 'ws', 'wss')
            THEN RAISE(ABORT,
                'outspoken: invalid_delivery: url: it must begin with http:// or https:// or ws:// or wss://')
            WHEN instr(place, '@')
            THEN RAISE(ABORT,
                'outspoken: invalid_delivery: url: unclear where the host begins: write %40 for another @')
            WHEN host IS NULL
            THEN RAISE(ABORT,
                'outspoken: invalid_delivery: url: the host is no name, not four decimals, no hexadecimal [IPv6]')
            WHEN userinfo = '' OR userinfo GLOB '*[^A-Za-z0-9._~!$&''()*+,;=:%-]*'
              OR userinfo || ',' GLOB '*%[^0-9A-Fa-f]*' OR userinfo || ',' GLOB '*%?[^0-9A-Fa-f]*'
            THEN RAISE(ABORT,
                'outspoken: invalid_delivery: url: the credentials are empty, or have to be percent-encoded')
            WHEN lower(userinfo) GLOB '*%[89a-f]*'
            THEN RAISE(ABORT,
                'outspoken: invalid_delivery: url: credentials beyond ASCII: send them as a header, authorization')
            WHEN instr(substr(lower(userinfo), 1, instr(userinfo || ':', ':')), '%3a')
            THEN RAISE(ABORT,
                'outspoken: invalid_delivery: url: the user name has a colon: Basic cannot carry it')
            WHEN lower(userinfo) GLOB '*%[01]*' OR lower(userinfo) GLOB '*%7f*'
            THEN RAISE(ABORT,
                'outspoken: invalid_delivery: url: the credentials hold a control character: Basic cannot carry it')
            WHEN port GLOB '*[^0-9]*' OR port GLOB '0*' OR length(port) NOT BETWEEN 1 AND 5
              OR CAST(port AS INTEGER) > 65535
            THEN RAISE(ABORT, 'outspoken: invalid_delivery: url: the port is none of 1 to 65535, written plainly')
            ELSE scheme || '://' || host || ':' || coalesce(port, iif(scheme IN ('https', 'wss'), '443', '80'))
        END,
        NEW.act, NEW.id, NEW.url, NEW.body, NEW.method, NEW.kind, NEW.content_type, NEW.headers, NEW.traceparent,
        NEW.schedule, NEW.stream, NEW.on_dead, NEW.live_until, NEW.producer
    FROM (SELECT scheme, userinfo, place, port, CASE
            -- One spelling of an address: no leading zeros, and :: for the longest run of zeros, the first of several.
            WHEN words IS NOT NULL THEN '[' || CASE
                WHEN run IS NOT NULL THEN trim(substr(words, 1, instr(words, run)), ':') || '::'
                              || trim(substr(words, instr(words, run) + length(run) - 1), ':')
                ELSE trim(words, ':') END || ']'
            WHEN last GLOB '[0-9]*' AND last NOT GLOB '*[^0-9]*' OR last GLOB '0x*' AND last NOT GLOB '0x*[^0-9a-f]*'
            THEN
                CASE WHEN name NOT GLOB '*[^0-9.]*' AND (
                    SELECT count(*) = 4
                           AND min(value = CAST(CAST(value AS INTEGER) AS TEXT) AND CAST(value AS INTEGER) < 256)
                    FROM json_each('["' || replace(name, '.', '","') || '"]')) THEN name END
            WHEN length(name) BETWEEN 1 AND 253 AND name NOT GLOB '*[^a-z0-9_.-]*' THEN
                CASE WHEN NOT EXISTS (
                    SELECT 1 FROM json_each('["' || replace(name, '.', '","') || '"]')
                    WHERE length(value) NOT BETWEEN 1 AND 63 OR value GLOB '-*' OR value GLOB '*-') THEN name END
            END AS host
    FROM (SELECT *, substr(name, length(rtrim(name, replace(name, '.', ''))) + 1) AS last, (
              SELECT substr(':0:0:0:0:0:0:0:0:', 1, 17 - 2 * key) FROM json_each('[8,7,6,5,4,3,2]')
              WHERE instr(words, substr(':0:0:0:0:0:0:0:0:', 1, 17 - 2 * key)) LIMIT 1) AS run
    FROM (SELECT *, CASE
            -- All eight words of an address in brackets, a colon on either side; NULL: it is none.
            WHEN address NOT GLOB '*[^0-9a-f:]*' THEN (
                SELECT CASE
                    WHEN count(*) = 8 AND min(length(value) BETWEEN 1 AND 4)
                    THEN ':' || group_concat(coalesce(nullif(ltrim(value, '0'), ''), '0'), ':') || ':' END
                FROM json_each('["' || replace(
                    CASE
                        WHEN gap = 0 THEN address
                        WHEN instr(substr(address, gap + 1), '::') THEN ''
                        WHEN colons > 7 + (gap IN (1, length(address) - 1)) THEN ''
                        WHEN address = '::' THEN '0:0:0:0:0:0:0:0'
                        WHEN gap = 1 THEN substr('0:0:0:0:0:0:0:0:', 1, 18 - 2 * colons) || substr(address, 3)
                        WHEN gap = length(address) - 1
                        THEN substr(address, 1, gap) || substr('0:0:0:0:0:0:0:0', 1, 17 - 2 * colons)
                        ELSE substr(address, 1, gap) || substr('0:0:0:0:0:0:0:0:', 1, 16 - 2 * colons)
                             || substr(address, gap + 2)
                    END, ':', '","') || '"]'))
            END AS words
    FROM (SELECT *, instr(address, '::') AS gap, length(address) - length(replace(address, ':', '')) AS colons
    FROM (SELECT *, iif(place GLOB '[[]*]' OR place GLOB '[[]*]:*', substr(place, 2, instr(place, ']') - 2), NULL)
                 AS address,
                 CASE WHEN place GLOB '[[]*' THEN '[' WHEN ending GLOB '*.' THEN substr(ending, 1, length(ending) - 1)
                      ELSE ending END AS name,
                 CASE WHEN place GLOB '[[]*]:*' THEN substr(place, instr(place, ']:') + 2)
                      WHEN place NOT GLOB '[[]*' AND instr(place, ':') THEN substr(place, instr(place, ':') + 1)
                 END AS port
    FROM (SELECT *, substr(place || ':', 1, instr(place || ':', ':') - 1) AS ending
    FROM (SELECT *, iif(instr(authority, '@'), substr(authority, 1, instr(authority, '@') - 1), NULL) AS userinfo,
                 lower(substr(authority, instr(authority, '@') + 1)) AS place
    FROM (SELECT *, substr(rest, 1, min(instr(rest || '/', '/'), instr(rest || '?', '?'), instr(rest || '#', '#')) - 1)
                 AS authority
    FROM (SELECT lower(substr(NEW.url, 1, instr(NEW.url, '://') - 1)) AS scheme,
                 substr(NEW.url, instr(NEW.url, '://') + 3) AS rest
    LIMIT 1) LIMIT 1) LIMIT 1) LIMIT 1) LIMIT 1) LIMIT 1) LIMIT 1) LIMIT 1) LIMIT 1);
END;

-- Stream, destination, delivery and body, in this order; a stream alone, where it is begun.
CREATE TRIGGER outspoken_placed INSTEAD OF INSERT ON outspoken_placed BEGIN
    SELECT CASE
        WHEN NEW.act = 'add' AND coalesce(length(NEW.id), 0) NOT BETWEEN 1 AND 128
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: id: expected 1 to 128 characters')
        WHEN NEW.id GLOB '*[^ -~]*' OR NEW.id <> trim(NEW.id)
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: id: expected printable ASCII, without spaces around it: it is a header')
        WHEN length(NEW.stream) NOT BETWEEN 1 AND 128
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: stream: expected 1 to 128 characters')
        WHEN NEW.schedule NOT IN ('fixed', 'exponential')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: schedule: expected "fixed", "exponential" or NULL')
        WHEN NEW.method NOT IN ('POST', 'PUT')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: method: expected "POST" or "PUT"')
        WHEN NEW.kind NOT IN ('final', 'partial', 'error')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: kind: expected "final", "partial" or "error"')
        WHEN NEW.on_dead NOT IN ('skip', 'kill')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: on_dead: expected "skip" or "kill"')
        WHEN typeof(NEW.live_until) NOT IN ('null', 'integer', 'real') OR abs(NEW.live_until) > 1e15
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: live_until: expected epoch seconds')
        WHEN NEW.act = 'add' AND typeof(NEW.body) NOT IN ('text', 'blob')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: body: expected text or a blob')
        WHEN NEW.act = 'add' AND NEW.scheme IN ('ws', 'wss') AND NEW.stream IS NULL
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: stream: a delivery to a WebSocket is one message of a stream: name it')
        WHEN NEW.scheme IN ('ws', 'wss') AND (NEW.stream GLOB '*[^ -~]*' OR NEW.stream <> trim(NEW.stream))
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: stream: expected printable ASCII, without spaces around it: a handshake has it')
        WHEN NEW.traceparent <> '' AND NOT (
            substr(NEW.traceparent, 3, 1) || substr(NEW.traceparent, 36, 1) || substr(NEW.traceparent, 53, 1) = '---'
            AND substr(NEW.traceparent, 1, 2) || substr(NEW.traceparent, 4, 32) || substr(NEW.traceparent, 37, 16)
                || substr(NEW.traceparent, 54, 2) NOT GLOB '*[^0-9a-f]*' AND length(NEW.traceparent) >= 55
            AND (substr(NEW.traceparent, 56) = '' OR substr(NEW.traceparent, 56) GLOB '-*')
            AND NEW.traceparent NOT GLOB '*[^!-~]*')
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: traceparent: expected 00-TRACE-PARENT-FLAGS, in lower-case hexadecimal')
        WHEN NOT json_valid(NEW.headers) OR json_type(NEW.headers) <> 'object'
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: headers: expected a JSON object')
        WHEN EXISTS (SELECT 1 FROM json_each(NEW.headers) WHERE type <> 'text')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: headers: expected a JSON object whose values are strings')
        WHEN instr(replace(NEW.headers, '\\', ''), '\u0000')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: headers: U+0000 cannot be kept: leave it out')
    END;
    SELECT RAISE(ABORT, 'outspoken: invalid_delivery: content_type: expected a media type, such as application/json')
    FROM (SELECT rtrim(substr(NEW.content_type, 1, instr(NEW.content_type || ';', ';') - 1), ' ') AS essence LIMIT 1)
    WHERE essence NOT GLOB '?*/?*' OR essence GLOB '*/*/*' OR essence GLOB '*[^/0-9A-Za-z!#$%&''*+.^_`|~-]*'
       OR NEW.content_type GLOB '*[^' || char(9) || ' -~]*';
    -- What frames a message, or is the relay's to say, is no producer's.
    SELECT CASE
        WHEN key = '' OR key GLOB '*[^0-9A-Za-z!#$%&''*+.^_`|~-]*'
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: headers: a name is one or more of the letters, digits and !#$%&''*+-.^_`|~')
        WHEN lower(key) IN ('host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive',
                            'proxy-connection', 'expect', 'upgrade', 'te', 'trailer', 'user-agent')
          OR lower(key) GLOB 'webhook-*' OR lower(key) GLOB 'sec-websocket-*'
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: headers: one of them is set by the relay: leave it out')
        WHEN lower(key) = 'content-type'
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: headers.content-type: use content_type')
        WHEN lower(key) = 'traceparent' AND NEW.act = 'add'
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: headers.traceparent: use traceparent')
        WHEN lower(key) = 'authorization' AND NEW.credentials
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: headers.authorization: the URL brings credentials of its own: leave one out')
        WHEN value GLOB '*[^' || char(9) || ' -~' || char(160) || '-' || char(255) || ']*'
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: headers: a value holds a control character, or one beyond Latin-1')
    END FROM json_each(NEW.headers);
    -- An escaped half of a surrogate pair becomes what is no UTF-8.
    INSERT INTO outspoken_texts SELECT 'headers', key || value FROM json_each(NEW.headers);
    INSERT INTO outspoken_texts
    SELECT 'body', CAST(NEW.body AS TEXT) WHERE NEW.act = 'add' AND NEW.scheme IN ('ws', 'wss');

    SELECT CASE
        WHEN NOT same
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: stream: it leads to another URL: one socket, one place')
        WHEN state = 'killed'
        THEN RAISE(ABORT, 'outspoken: stream_killed: the stream was killed: nothing can be added to it')
        WHEN state <> 'open'
        THEN RAISE(ABORT, 'outspoken: stream_ended: the stream has ended: nothing can be added to it')
    END
    FROM (SELECT state, transport = iif(NEW.scheme IN ('ws', 'wss'), 'ws', 'http')
                        AND url IS iif(NEW.scheme IN ('ws', 'wss'), NEW.url, NULL) AS same
          FROM outspoken_streams WHERE key = NEW.stream);
    -- Asked before, because an INSERT OR REPLACE of the caller's would replace here too.
    SELECT RAISE(ABORT, 'outspoken: duplicate_delivery: a delivery with this id is in the outbox already')
    WHERE NEW.act = 'add' AND EXISTS (SELECT 1 FROM outspoken_deliveries WHERE id = NEW.id);

    INSERT INTO outspoken_destinations (origin)
    SELECT NEW.origin WHERE NOT EXISTS (SELECT 1 FROM outspoken_destinations WHERE origin = NEW.origin);
    INSERT INTO outspoken_streams (key, on_dead, transport, url, headers)
    SELECT NEW.stream, NEW.on_dead, iif(NEW.scheme IN ('ws', 'wss'), 'ws', 'http'),
           iif(NEW.scheme IN ('ws', 'wss'), NEW.url, NULL),
           CASE
               WHEN NEW.scheme NOT IN ('ws', 'wss') THEN '{}'
               WHEN NEW.traceparent <> '' THEN json_insert(NEW.headers, '$.traceparent', NEW.traceparent)
               ELSE json(NEW.headers)
           END
    WHERE NEW.stream IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outspoken_streams WHERE key = NEW.stream);
    UPDATE outspoken_streams
    SET position = position + (NEW.act = 'add'), producer = coalesce(NEW.producer, producer),
        producer_until = max(coalesce(producer_until, NEW.live_until), coalesce(NEW.live_until, 0))
    WHERE key = NEW.stream;
    INSERT INTO outspoken_deliveries
        (id, destination_id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
         schedule, stream_id, position)
    SELECT NEW.id, destinations.id, NEW.url, NEW.method, NEW.kind, NEW.content_type, json(NEW.headers), NEW.traceparent,
           length(CAST(NEW.body AS BLOB)), now,
           CASE WHEN streams.transport = 'ws'
                  OR EXISTS (SELECT 1 FROM outspoken_deliveries AS before
                             WHERE before.stream_id = streams.id AND before.state IN ('pending', 'leased'))
                THEN NULL ELSE now END,
           NEW.schedule, streams.id, streams.position
    FROM (SELECT (julianday('now') - 2440587.5) * 86400.0 AS now LIMIT 1), outspoken_destinations AS destinations
    LEFT JOIN outspoken_streams AS streams ON streams.key = NEW.stream
    WHERE destinations.origin = NEW.origin AND NEW.act = 'add';
    INSERT INTO outspoken_bodies (seq, body)
    SELECT seq, CAST(NEW.body AS BLOB) FROM outspoken_deliveries WHERE id = NEW.id AND NEW.act = 'add';
END;

-- A stream of which nothing waits any more is closed at once; a WebSocket is closed by its holder.
CREATE TRIGGER outspoken_end_stream_v1 INSTEAD OF INSERT ON outspoken_end_stream_v1 BEGIN
    UPDATE outspoken_streams
    SET producer_until = NULL, state = iif(busy, 'ended', 'closed'),
        finished_at = iif(busy, NULL, (julianday('now') - 2440587.5) * 86400.0)
    FROM (SELECT one.id AS it, one.transport = 'ws' OR EXISTS (
              SELECT 1 FROM outspoken_deliveries AS each
              WHERE each.stream_id = one.id AND each.state IN ('pending', 'leased')) AS busy
          FROM outspoken_streams AS one WHERE one.key = NEW.stream)
    WHERE id = it AND state = 'open';
END;

CREATE TRIGGER outspoken_keep_stream_v1 INSTEAD OF INSERT ON outspoken_keep_stream_v1 BEGIN
    SELECT RAISE(ABORT, 'outspoken: invalid_delivery: until: expected epoch seconds')
    WHERE typeof(NEW.until) NOT IN ('integer', 'real') OR abs(NEW.until) > 1e15;
    UPDATE outspoken_streams SET producer_until = NEW.until
    WHERE key = NEW.stream AND state = 'open' AND producer_until < NEW.until;
END;
