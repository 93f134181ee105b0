-- The id of a delivery may have 256 characters. No other row than before is taken for what it is not, so the CHECK is written
-- where it stands, as SQLite's documentation has it for a table of any size. What follows tells other connections of it.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (length(id) BETWEEN 1 AND 128)', 'CHECK (length(id) BETWEEN 1 AND 256)')
WHERE type = 'table' AND name = 'outspoken_deliveries';
PRAGMA writable_schema = RESET;

DROP TRIGGER outspoken_placed;
-- What programs in every language do with SQL alone, as in 0009_doors.sql: a text, of a few fields more.
DROP TRIGGER outspoken_texts;
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
        WHEN 'owner' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: owner: expected text, in UTF-8 and without U+0000')
        WHEN 'idempotency_key' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: idempotency_key: expected text, in UTF-8 and without U+0000')
        WHEN 'tags' THEN
            RAISE(ABORT, 'outspoken: invalid_delivery: tags: expected text, in UTF-8 and without U+0000')
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

-- Stream, delivery and body, in this order; a stream alone, where it is begun; nothing, where only what is plainly wrong is
-- asked for.
CREATE TRIGGER outspoken_placed INSTEAD OF INSERT ON outspoken_placed BEGIN
    SELECT CASE
        WHEN NEW.act <> 'begin' AND coalesce(length(NEW.id), 0) NOT BETWEEN 1 AND 256
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: id: expected 1 to 256 characters')
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
        WHEN NEW.act <> 'begin' AND typeof(NEW.body) NOT IN ('text', 'blob')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: body: expected text or a blob')
        WHEN NEW.act <> 'begin' AND NEW.scheme IN ('ws', 'wss') AND NEW.stream IS NULL
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
        WHEN lower(key) = 'traceparent' AND NEW.act <> 'begin'
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
    SELECT 'body', CAST(NEW.body AS TEXT) WHERE NEW.act <> 'begin' AND NEW.scheme IN ('ws', 'wss');

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
          FROM outspoken_streams WHERE key = NEW.stream AND NEW.act <> 'check');
    -- Asked before, because an INSERT OR REPLACE of the caller's would replace here too.
    SELECT RAISE(ABORT, 'outspoken: duplicate_delivery: a delivery with this id is in the outbox already')
    WHERE NEW.act = 'add' AND EXISTS (SELECT 1 FROM outspoken_deliveries WHERE id = NEW.id);

    INSERT INTO outspoken_streams (key, on_dead, transport, url, headers)
    SELECT NEW.stream, NEW.on_dead, iif(NEW.scheme IN ('ws', 'wss'), 'ws', 'http'),
           iif(NEW.scheme IN ('ws', 'wss'), NEW.url, NULL),
           CASE
               WHEN NEW.scheme NOT IN ('ws', 'wss') THEN '{}'
               WHEN NEW.traceparent <> '' THEN json_insert(NEW.headers, '$.traceparent', NEW.traceparent)
               ELSE json(NEW.headers)
           END
    WHERE NEW.stream IS NOT NULL AND NEW.act <> 'check'
      AND NOT EXISTS (SELECT 1 FROM outspoken_streams WHERE key = NEW.stream);
    UPDATE outspoken_streams
    SET position = position + (NEW.act = 'add'), producer = coalesce(NEW.producer, producer),
        producer_until = max(coalesce(producer_until, NEW.live_until), coalesce(NEW.live_until, 0))
    WHERE key = NEW.stream AND NEW.act <> 'check';
    INSERT INTO outspoken_deliveries
        (id, origin, path, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at, lane,
         schedule, stream_id, position)
    SELECT NEW.id, NEW.origin,
           CASE WHEN slash > 0 AND slash < ends THEN substr(substr(rest, slash, ends - slash), 1, 255) ELSE '/' END,
           NEW.url, NEW.method, NEW.kind, NEW.content_type, json(NEW.headers), NEW.traceparent,
           length(CAST(NEW.body AS BLOB)), now, iif(waits, NULL, now), iif(waits, 2, 0), NEW.schedule, stream_id, position
    FROM (SELECT (julianday('now') - 2440587.5) * 86400.0 AS now, rest, instr(rest, '/') AS slash,
                 min(instr(rest || '?', '?'), instr(rest || '#', '#')) AS ends,
                 streams.id AS stream_id, streams.position AS position,
                 coalesce(streams.transport = 'ws', 0) OR EXISTS (
                     SELECT 1 FROM outspoken_deliveries AS before
                     WHERE before.stream_id = streams.id AND before.state IN ('pending', 'leased')) AS waits
          FROM (SELECT substr(NEW.url, instr(NEW.url, '://') + 3) AS rest LIMIT 1)
          LEFT JOIN outspoken_streams AS streams ON streams.key = NEW.stream LIMIT 1)
    WHERE NEW.act = 'add';
    INSERT INTO outspoken_bodies (seq, body)
    SELECT seq, CAST(NEW.body AS BLOB) FROM outspoken_deliveries WHERE id = NEW.id AND NEW.act = 'add';
END;

-- The same, with all there is to say; `tags` are a JSON array of texts. Under a key that was used before nothing is
-- added: `outspoken_deliveries_v2` tells under which id it is kept.
CREATE VIEW outspoken_add_v2 AS
SELECT *, NULL AS due_at, NULL AS idempotency_key, NULL AS tags, NULL AS tracked, NULL AS owner, NULL AS priority
FROM outspoken_add_v1;
CREATE TRIGGER outspoken_add_v2 INSTEAD OF INSERT ON outspoken_add_v2 BEGIN
    INSERT INTO outspoken_texts
    VALUES ('idempotency_key', NEW.idempotency_key), ('owner', NEW.owner), ('tags', NEW.tags);
    SELECT CASE
        WHEN NEW.due_at IS NOT NULL AND NEW.stream IS NOT NULL
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: due_at: one of a stream is due when the one before it has ended: leave one out')
        WHEN typeof(NEW.due_at) NOT IN ('null', 'integer', 'real') OR NEW.due_at NOT BETWEEN 0 AND 253402300799
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: due_at: expected a time from 1970 to 9999, in epoch seconds')
        WHEN length(NEW.idempotency_key) NOT BETWEEN 1 AND 256
          OR NEW.idempotency_key GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*'
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: idempotency_key: expected 1 to 256 characters, none of them a control character')
        WHEN typeof(NEW.tracked) NOT IN ('null', 'integer') OR NEW.tracked NOT IN (0, 1)
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: tracked: expected 0 or 1')
        WHEN length(NEW.owner) > 128
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: owner: expected 0 to 128 characters')
        WHEN typeof(NEW.priority) NOT IN ('null', 'integer') OR NEW.priority NOT BETWEEN -100 AND 100
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: priority: expected -100 to 100')
        WHEN NEW.tags IS NOT NULL AND NOT json_valid(NEW.tags) OR json_type(NEW.tags) <> 'array'
          OR EXISTS (SELECT 1 FROM json_each(NEW.tags) WHERE type <> 'text')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: tags: expected a JSON array of strings')
        WHEN instr(replace(NEW.tags, '\\', ''), '\u0000')
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: tags: U+0000 cannot be kept: leave it out')
        WHEN (SELECT count(*) FROM json_each(NEW.tags)) > 20
        THEN RAISE(ABORT, 'outspoken: invalid_delivery: tags: expected at most 20')
        WHEN EXISTS (SELECT 1 FROM json_each(NEW.tags)
                     WHERE length(value) NOT BETWEEN 1 AND 128
                        OR value GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*')
        THEN RAISE(ABORT,
            'outspoken: invalid_delivery: tags: expected 1 to 128 characters each, none of them a control character')
    END;
    INSERT INTO outspoken_texts SELECT 'tags', value FROM json_each(coalesce(NEW.tags, '[]'));
    INSERT INTO outspoken_asked
    SELECT iif(EXISTS (SELECT 1 FROM outspoken_deliveries WHERE idempotency_key = NEW.idempotency_key), 'check', 'add'),
           NEW.id, NEW.url, NEW.body, coalesce(NEW.method, 'POST'), coalesce(NEW.kind, 'final'),
           coalesce(NEW.content_type, 'application/json'), coalesce(NEW.headers, '{}'), NEW.traceparent, NEW.schedule,
           NEW.stream, coalesce(NEW.on_dead, 'skip'), NEW.live_until, NEW.producer;
    -- From here on, without one under the key, it was added: what was added before is another delivery, or the same.
    SELECT RAISE(ABORT,
        'outspoken: invalid_delivery: idempotency_key: it stands for another url, method, content_type or body')
    FROM outspoken_deliveries AS it LEFT JOIN outspoken_bodies AS content ON content.seq = it.seq
    WHERE it.idempotency_key = NEW.idempotency_key
      AND (it.url <> NEW.url OR it.method <> coalesce(NEW.method, 'POST')
           OR it.content_type <> coalesce(NEW.content_type, 'application/json')
           OR it.body_bytes <> length(CAST(NEW.body AS BLOB)) OR coalesce(content.body <> CAST(NEW.body AS BLOB), FALSE));
    INSERT INTO outspoken_tags (seq, tag)
    SELECT DISTINCT it.seq, one.value FROM outspoken_deliveries AS it, json_each(coalesce(NEW.tags, '[]')) AS one
    WHERE it.id = NEW.id
      AND NOT EXISTS (SELECT 1 FROM outspoken_deliveries WHERE idempotency_key = NEW.idempotency_key);
    UPDATE outspoken_deliveries
    SET due_at = iif(NEW.due_at > created_at, NEW.due_at, due_at), lane = iif(NEW.due_at > created_at, 2, lane),
        scheduled_from = max(created_at, NEW.due_at), idempotency_key = NEW.idempotency_key,
        tracked = coalesce(NEW.tracked, 0), owner = coalesce(NEW.owner, ''), priority = coalesce(NEW.priority, 0)
    WHERE id = NEW.id
      AND NOT EXISTS (SELECT 1 FROM outspoken_deliveries WHERE idempotency_key = NEW.idempotency_key);
END;

-- One that is pending is given up, and the next of its stream may go. One that is being attempted is left to its attempt:
-- `outspoken_deliveries_v2` tells what became of it.
CREATE VIEW outspoken_cancel_v1 AS SELECT NULL AS id LIMIT 0;
CREATE TRIGGER outspoken_cancel_v1 INSTEAD OF INSERT ON outspoken_cancel_v1 BEGIN
    UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = (julianday('now') - 2440587.5) * 86400.0
    WHERE id = NEW.id AND state = 'pending';
    UPDATE outspoken_deliveries SET due_at = (julianday('now') - 2440587.5) * 86400.0
    WHERE due_at IS NULL AND seq = (
        SELECT next.seq FROM outspoken_deliveries AS gone JOIN outspoken_streams AS stream ON stream.id = gone.stream_id
        CROSS JOIN outspoken_deliveries AS next INDEXED BY outspoken_deliveries_stream
        WHERE gone.id = NEW.id AND gone.state = 'cancelled' AND stream.transport = 'http'
          AND next.stream_id = stream.id AND next.state IN ('pending', 'leased')
        ORDER BY next.position LIMIT 1);
END;

-- What became of deliveries, and of the last attempt at each.
CREATE VIEW outspoken_deliveries_v2 AS
SELECT it.id, it.origin AS destination, it.state, it.reason, it.attempts,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.created_at, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.due_at, 'unixepoch') AS due_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.finished_at, 'unixepoch') AS finished_at, stream.key AS stream, it.position,
       it.idempotency_key,
       (SELECT json_group_array(tag) FROM (SELECT tag FROM outspoken_tags WHERE seq = it.seq ORDER BY tag)) AS tags,
       last.status AS last_status, last.outcome AS last_outcome, last.detail AS diagnosis, it.owner, it.priority
FROM outspoken_deliveries AS it LEFT JOIN outspoken_streams AS stream ON stream.id = it.stream_id
LEFT JOIN outspoken_attempts AS last ON last.seq = it.seq
     AND last.number = (SELECT max(number) FROM outspoken_attempts AS each WHERE each.seq = it.seq);

-- Tracked deliveries that have ended, until somebody takes note and deletes them from here.
CREATE VIEW outspoken_ended_v1 AS
SELECT it.id, it.state, it.reason, strftime('%Y-%m-%dT%H:%M:%fZ', it.finished_at, 'unixepoch') AS finished_at
FROM outspoken_ends AS ends JOIN outspoken_deliveries AS it ON it.seq = ends.seq WHERE it.finished_at IS NOT NULL;
CREATE TRIGGER outspoken_ended_v1 INSTEAD OF DELETE ON outspoken_ended_v1 BEGIN
    DELETE FROM outspoken_ends WHERE seq = (SELECT seq FROM outspoken_deliveries WHERE id = OLD.id);
END;
