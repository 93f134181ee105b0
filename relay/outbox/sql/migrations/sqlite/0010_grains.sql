-- Deliveries carry where they go and whose they are as text: a producer writes no row that another may write. A row about
-- a destination is the relay's or an operator's. The foreign key cannot be dropped, so both tables are made anew; what
-- refers to deliveries is counted when the transaction commits, and what goes with them is kept apart.
PRAGMA defer_foreign_keys = ON;

DROP VIEW outspoken_deliveries_v1;
DROP TRIGGER outspoken_placed;
CREATE TABLE outspoken_tags_before AS SELECT * FROM outspoken_tags;
CREATE TABLE outspoken_ends_before AS SELECT * FROM outspoken_ends;
CREATE TABLE outspoken_destinations_before AS SELECT * FROM outspoken_destinations;
CREATE TABLE outspoken_deliveries_before AS
SELECT deliveries.*, destinations.origin AS place, substr(url, instr(url, '://') + 3) AS rest
FROM outspoken_deliveries AS deliveries JOIN outspoken_destinations AS destinations ON destinations.id = destination_id;
CREATE TABLE outspoken_keys_before AS
SELECT keys.id, (SELECT origin FROM outspoken_destinations WHERE id = destination_id) AS origin, key, created_at, retires_at
FROM outspoken_signing_keys AS keys;
CREATE TABLE outspoken_numbered AS SELECT name, seq FROM sqlite_sequence
WHERE name IN ('outspoken_deliveries', 'outspoken_signing_keys');
DROP TABLE outspoken_signing_keys;
DROP TABLE outspoken_deliveries;
DROP TABLE outspoken_destinations;

-- What is known of a receiver: of an origin (scheme, host and effective port) as a whole, under the path '', and of an
-- endpoint of it, under its path without the query (the first 255 characters). Every origin has a row that was tried; an
-- endpoint has one while it is in trouble, taught a limit, or was spoken of by an operator.
CREATE TABLE outspoken_destinations (
    origin           TEXT    NOT NULL CHECK (origin LIKE '%_://_%:_%'),
    path             TEXT    NOT NULL DEFAULT '' CHECK (length(path) <= 255),
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
    every            REAL CHECK (every > 0),
    slowed_at        REAL    NOT NULL DEFAULT 0,     -- when it was slowed down last
    allowed_at       REAL    NOT NULL DEFAULT 0,     -- no attempt goes there before
    owner            TEXT    NOT NULL DEFAULT '',    -- of what was held last: the held have their turns by owner too
    turn_at          REAL,                           -- when it is asked next for what it allows; NULL: nothing waits
    largest_accepted INTEGER CHECK (largest_accepted >= 0),
    smallest_refused INTEGER CHECK (smallest_refused >= 0),
    PRIMARY KEY (origin, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX outspoken_destinations_turn ON outspoken_destinations (silent, owner, turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX outspoken_destinations_next ON outspoken_destinations (turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX outspoken_destinations_held ON outspoken_destinations (origin, path) WHERE held = 1;

-- URLs that answered 410, as the SHA-256 of each in hexadecimal: nothing goes there until an operator enables them.
CREATE TABLE outspoken_gone_urls (
    sha256 TEXT NOT NULL PRIMARY KEY,
    origin TEXT NOT NULL,
    path   TEXT NOT NULL,
    since  REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outspoken_gone_urls_place ON outspoken_gone_urls (origin, path);

-- One result for one callback URL. The row is small because every claim and every settlement rewrites it.
CREATE TABLE outspoken_deliveries (
    -- AUTOINCREMENT: without it SQLite hands out the ids of deleted rows again.
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 128),
    owner          TEXT    NOT NULL DEFAULT '',  -- whose it is: owners have their turns, whatever one of them adds
    origin         TEXT    NOT NULL,
    path           TEXT    NOT NULL CHECK (length(path) BETWEEN 1 AND 255),
    url            TEXT    NOT NULL,
    method         TEXT    NOT NULL DEFAULT 'POST' CHECK (method IN ('POST', 'PUT')),
    kind           TEXT    NOT NULL DEFAULT 'final' CHECK (kind IN ('final', 'partial', 'error')),
    priority       INTEGER NOT NULL DEFAULT 0,   -- to its endpoint the higher goes first
    content_type   TEXT    NOT NULL DEFAULT 'application/json',
    headers        TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(headers) = 'object'),
    traceparent    TEXT,
    body_bytes     INTEGER NOT NULL CHECK (body_bytes >= 0),
    created_at     REAL    NOT NULL,
    due_at         REAL,     -- NULL: it waits for the one before it in its stream
    scheduled_from REAL,     -- when its schedule began; NULL: with created_at, as it was never replayed
    schedule       TEXT CHECK (schedule IN ('fixed', 'exponential')),  -- NULL: the relay's own
    stream_id      INTEGER REFERENCES outspoken_streams (id),
    position       INTEGER CHECK (position > 0),
    pointer        INTEGER NOT NULL DEFAULT 0 CHECK (pointer IN (0, 1)),  -- 1: send a link instead of the body
    state          TEXT    NOT NULL DEFAULT 'pending'
                   CHECK (state IN ('pending', 'leased', 'delivered', 'dead', 'cancelled')),
    -- Where a pending one stands. 0: ready, it goes when its turn comes. 1: held, its destination says when. 2: scheduled,
    -- it is not due, or has just become so.
    lane           INTEGER NOT NULL DEFAULT 0 CHECK (lane IN (0, 1, 2)),
    attempts       INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),  -- attempts that were settled
    lapses         INTEGER NOT NULL DEFAULT 0 CHECK (lapses >= 0),    -- leases that expired unsettled
    lease_token    TEXT,
    lease_until    REAL,
    finished_at    REAL,
    reason         TEXT,
    -- Unique as long as the delivery is kept: whoever adds it again under this key is answered with the first one's id.
    idempotency_key TEXT CHECK (length(idempotency_key) BETWEEN 1 AND 256),
    tracked        INTEGER NOT NULL DEFAULT 0 CHECK (tracked IN (0, 1)),  -- 1: its end goes into outspoken_ends
    CHECK ((state = 'leased') = (lease_token IS NOT NULL)),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('delivered', 'dead', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((state = 'dead') = (reason IS NOT NULL)),
    CHECK (state <> 'delivered' OR attempts > 0),
    CHECK ((stream_id IS NULL) = (position IS NULL)),
    CHECK (due_at IS NOT NULL OR stream_id IS NOT NULL),
    CHECK (due_at IS NOT NULL OR state <> 'leased'),
    CHECK (due_at IS NOT NULL OR lane = 2 OR state <> 'pending')
) STRICT;

INSERT INTO outspoken_deliveries
    (seq, id, origin, path, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
     scheduled_from, schedule, stream_id, position, pointer, state, lane, attempts, lapses, lease_token, lease_until,
     finished_at, reason, idempotency_key, tracked)
SELECT seq, id, place,
       CASE WHEN instr(rest, '/') > 0 AND instr(rest, '/') < min(instr(rest || '?', '?'), instr(rest || '#', '#'))
            THEN substr(substr(rest, instr(rest, '/'), min(instr(rest || '?', '?'), instr(rest || '#', '#')) - instr(rest, '/')), 1, 255)
            ELSE '/' END,
       url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at, scheduled_from, schedule,
       stream_id, position, pointer, state, 2, attempts, lapses, lease_token, lease_until, finished_at, reason,
       idempotency_key, tracked
FROM outspoken_deliveries_before ORDER BY seq;

-- Partial, so that a claim costs the same however much was delivered: one for each lane. A query must spell the literals:
-- SQLite does not match a bound parameter to a partial index.
CREATE INDEX outspoken_deliveries_ready ON outspoken_deliveries (owner, origin, path, priority DESC, due_at, seq)
    WHERE state = 'pending' AND lane = 0;
CREATE INDEX outspoken_deliveries_held ON outspoken_deliveries (origin, path, priority DESC, due_at, seq)
    WHERE state = 'pending' AND lane = 1;
CREATE INDEX outspoken_deliveries_waiting ON outspoken_deliveries (due_at, origin, path) WHERE state = 'pending' AND lane = 1;
CREATE INDEX outspoken_deliveries_scheduled ON outspoken_deliveries (due_at, origin) WHERE state = 'pending' AND lane = 2;
CREATE INDEX outspoken_deliveries_leased ON outspoken_deliveries (origin, path, lease_until) WHERE state = 'leased';
CREATE UNIQUE INDEX outspoken_deliveries_stream ON outspoken_deliveries (stream_id, position)
    WHERE stream_id IS NOT NULL AND state IN ('pending', 'leased');
CREATE INDEX outspoken_deliveries_dead ON outspoken_deliveries (finished_at) WHERE state = 'dead';
CREATE INDEX outspoken_deliveries_of_stream ON outspoken_deliveries (stream_id) WHERE stream_id IS NOT NULL;

CREATE UNIQUE INDEX outspoken_deliveries_idempotency ON outspoken_deliveries (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
INSERT INTO outspoken_tags SELECT * FROM outspoken_tags_before WHERE TRUE ON CONFLICT DO NOTHING;
INSERT INTO outspoken_ends SELECT * FROM outspoken_ends_before WHERE TRUE ON CONFLICT DO NOTHING;
DROP TABLE outspoken_tags_before;
DROP TABLE outspoken_ends_before;
CREATE TRIGGER outspoken_note_end AFTER UPDATE OF finished_at ON outspoken_deliveries
WHEN NEW.tracked = 1 AND NEW.finished_at IS NOT NULL
BEGIN
    INSERT INTO outspoken_ends (seq) VALUES (NEW.seq) ON CONFLICT DO NOTHING;
END;

INSERT INTO outspoken_destinations (origin, state, held, largest_accepted)
SELECT origin, state, state <> 'active', largest_accepted FROM outspoken_destinations_before;
INSERT INTO outspoken_destinations (origin, path, largest_accepted, smallest_refused)
SELECT DISTINCT deliveries.origin, deliveries.path, largest_accepted, smallest_refused
FROM outspoken_destinations_before AS before JOIN outspoken_deliveries AS deliveries ON deliveries.origin = before.origin
WHERE smallest_refused IS NOT NULL;

-- Keys that sign deliveries: to one origin, or to all (origin NULL). Signing needs them in the clear.
CREATE TABLE outspoken_signing_keys (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    origin     TEXT,
    key        TEXT    NOT NULL CHECK (key LIKE 'whsec\__%' ESCAPE '\' OR key LIKE 'whsk\__%' ESCAPE '\'),
    created_at REAL    NOT NULL,
    retires_at REAL  -- NULL: it signs until it is replaced
) STRICT;
INSERT INTO outspoken_signing_keys SELECT id, origin, key, created_at, retires_at FROM outspoken_keys_before;

-- Numbers that were given out are not given out again.
DELETE FROM sqlite_sequence WHERE name IN (SELECT name FROM outspoken_numbered);
INSERT INTO sqlite_sequence (name, seq) SELECT name, seq FROM outspoken_numbered;
DROP TABLE outspoken_numbered;
DROP TABLE outspoken_keys_before;
DROP TABLE outspoken_deliveries_before;
DROP TABLE outspoken_destinations_before;

-- What became of deliveries, as long as they are kept. No URL and no header: they hold secrets.
CREATE VIEW outspoken_deliveries_v1 AS
SELECT it.id, it.origin AS destination, it.state, it.reason, it.attempts,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.created_at, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.due_at, 'unixepoch') AS due_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.finished_at, 'unixepoch') AS finished_at, stream.key AS stream, it.position
FROM outspoken_deliveries AS it LEFT JOIN outspoken_streams AS stream ON stream.id = it.stream_id;

-- Stream, delivery and body, in this order; a stream alone, where it is begun.
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
