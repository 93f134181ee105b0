-- The outbox, where there is none. Times are UTC seconds since the epoch, sizes bytes.
--
-- What a producer adds is checked by no IN of more than two values: SQLite would make a table in between for each, for
-- every row. PostgreSQL keeps the values in an array.

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
    tried            INTEGER NOT NULL DEFAULT 1 CHECK (tried IN (0, 1)),   -- 0: it waits for its first attempt
    PRIMARY KEY (origin, path)
) STRICT, WITHOUT ROWID;

-- URLs that answered 410, as the SHA-256 of each in hexadecimal: nothing goes there until an operator enables them.
CREATE TABLE outspoken_gone_urls (
    sha256 TEXT NOT NULL PRIMARY KEY,
    origin TEXT NOT NULL,
    path   TEXT NOT NULL,
    since  REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Deliveries that go strictly one after another. `on_dead` says what a dead one does to those behind it.
CREATE TABLE outspoken_streams (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    key            TEXT    NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 128),
    on_dead        TEXT    NOT NULL DEFAULT 'skip' CHECK (on_dead IN ('skip', 'kill')),
    -- http: a request for each delivery. ws: one socket for all of them; such deliveries are never claimed one by one.
    transport      TEXT    NOT NULL DEFAULT 'http' CHECK (transport IN ('http', 'ws')),
    state          TEXT    NOT NULL DEFAULT 'open'
                   CHECK (state = 'open' OR state = 'ended' OR state = 'closed' OR state = 'killed'),
    reason         TEXT,     -- why it was killed (relay.model.KillReason)
    position       INTEGER NOT NULL DEFAULT 0 CHECK (position >= 0),  -- of the delivery added last
    -- When its producer is taken for dead; NULL: it promised nothing, or has ended the stream.
    producer_until REAL,
    url            TEXT,     -- where its socket leads
    headers        TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(headers) = 'object'),  -- of its handshake
    holder         TEXT,     -- the relay that holds its socket
    holder_until   REAL,     -- when that relay is taken for dead, and the socket with it
    finished_at    REAL,
    -- The process that adds to it while it lives, by the name under which it says that it lives; NULL: it says nothing.
    producer       TEXT,
    CHECK ((state = 'killed') = (reason IS NOT NULL)),
    CHECK ((state IN ('closed', 'killed')) = (finished_at IS NOT NULL)),
    CHECK ((transport = 'ws') = (url IS NOT NULL)),
    CHECK ((holder IS NULL) = (holder_until IS NULL)),
    CHECK (holder IS NULL OR (transport = 'ws' AND state IN ('open', 'ended')))
) STRICT;

-- One result for one callback URL. The row is small because every claim and every settlement rewrites it.
CREATE TABLE outspoken_deliveries (
    -- AUTOINCREMENT: without it SQLite hands out the ids of deleted rows again.
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 256),
    owner          TEXT    NOT NULL DEFAULT '',  -- whose it is: owners have their turns, whatever one of them adds
    origin         TEXT    NOT NULL,
    path           TEXT    NOT NULL CHECK (length(path) BETWEEN 1 AND 255),
    url            TEXT    NOT NULL,
    method         TEXT    NOT NULL DEFAULT 'POST' CHECK (method IN ('POST', 'PUT')),
    kind           TEXT    NOT NULL DEFAULT 'final' CHECK (kind = 'final' OR kind = 'partial' OR kind = 'error'),
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
                   CHECK (state = 'pending' OR state = 'leased' OR state = 'delivered' OR state = 'dead'
                          OR state = 'cancelled'),
    -- Where a pending one stands. 0: ready, it goes when its turn comes. 1: held, its destination says when. 2: scheduled,
    -- it is not due, or has just become so.
    lane           INTEGER NOT NULL DEFAULT 0 CHECK (lane BETWEEN 0 AND 2),
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
    CHECK ((state = 'delivered' OR state = 'dead' OR state = 'cancelled') = (finished_at IS NOT NULL)),
    CHECK ((state = 'dead') = (reason IS NOT NULL)),
    CHECK (state <> 'delivered' OR attempts > 0),
    CHECK ((stream_id IS NULL) = (position IS NULL)),
    CHECK (due_at IS NOT NULL OR stream_id IS NOT NULL),
    CHECK (due_at IS NOT NULL OR state <> 'leased'),
    CHECK (due_at IS NOT NULL OR lane = 2 OR state <> 'pending')
) STRICT;

-- Apart from the deliveries, so that no claim or retry rewrites a body.
CREATE TABLE outspoken_bodies (
    seq  INTEGER PRIMARY KEY REFERENCES outspoken_deliveries (seq),
    body BLOB NOT NULL
) STRICT;

-- What happened, attempt by attempt. `outcome` is a closed set (relay.model.Outcome); `excerpt` the start of the answer.
CREATE TABLE outspoken_attempts (
    seq             INTEGER NOT NULL REFERENCES outspoken_deliveries (seq),
    number          INTEGER NOT NULL CHECK (number > 0),
    started_at      REAL    NOT NULL,
    lag             REAL    NOT NULL CHECK (lag >= 0),
    duration        REAL    NOT NULL CHECK (duration >= 0),
    outcome         TEXT    NOT NULL,
    status          INTEGER CHECK (status BETWEEN 100 AND 999),
    peer            TEXT,
    detail          TEXT    NOT NULL DEFAULT '',
    timing          TEXT    NOT NULL DEFAULT '{}',  -- JSON: dns, connect, tls, first_byte
    request_headers TEXT    NOT NULL DEFAULT '[]',  -- JSON, secrets redacted
    answer_headers  TEXT    NOT NULL DEFAULT '[]',  -- JSON, secrets redacted
    excerpt         BLOB    NOT NULL DEFAULT x'',
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

-- Words that deliveries are found by.
CREATE TABLE outspoken_tags (
    seq INTEGER NOT NULL REFERENCES outspoken_deliveries (seq) ON DELETE CASCADE,
    tag TEXT    NOT NULL CHECK (length(tag) BETWEEN 1 AND 128),
    PRIMARY KEY (seq, tag)
) STRICT, WITHOUT ROWID;

-- Tracked deliveries whose end nobody has taken note of. They are taken out in the transaction of whoever acts on them.
CREATE TABLE outspoken_ends (
    seq INTEGER PRIMARY KEY REFERENCES outspoken_deliveries (seq) ON DELETE CASCADE
) STRICT;

-- Keys that sign deliveries: to one origin, or to all (origin NULL). Signing needs them in the clear.
CREATE TABLE outspoken_signing_keys (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    origin     TEXT,
    key        TEXT    NOT NULL CHECK (key LIKE 'whsec\__%' ESCAPE '\' OR key LIKE 'whsk\__%' ESCAPE '\'),
    created_at REAL    NOT NULL,
    retires_at REAL  -- NULL: it signs until it is replaced
) STRICT;

-- Relays at work on this file: each takes its share of a destination's cap.
CREATE TABLE outspoken_relays (
    holder  TEXT PRIMARY KEY,
    seen_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- What operators did, and by what means.
CREATE TABLE outspoken_audit (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    actor  TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('cli', 'api', 'console', 'relay')),
    act    TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_type(detail) = 'object')
) STRICT;

-- What both processes have to know and nobody else may: the key under the links of pointers.
CREATE TABLE outspoken_secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO outspoken_secrets (name, value) VALUES ('pointer', randomblob(32));

CREATE INDEX outspoken_deliveries_leased ON outspoken_deliveries (origin, path, lease_until) WHERE state = 'leased';
CREATE UNIQUE INDEX outspoken_deliveries_stream ON outspoken_deliveries (stream_id, position)
    WHERE stream_id IS NOT NULL AND state IN ('pending', 'leased');
CREATE INDEX outspoken_deliveries_dead ON outspoken_deliveries (finished_at) WHERE state = 'dead';

-- Those that somebody has to look after, however many others are open or kept. A query must spell the same conditions.
CREATE INDEX outspoken_streams_live ON outspoken_streams (transport, state)
    WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL);
CREATE INDEX outspoken_deliveries_of_stream ON outspoken_deliveries (stream_id) WHERE stream_id IS NOT NULL;
CREATE UNIQUE INDEX outspoken_deliveries_idempotency ON outspoken_deliveries (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX outspoken_tags_found ON outspoken_tags (tag, seq);
CREATE INDEX outspoken_destinations_turn ON outspoken_destinations (silent, tried, owner, turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX outspoken_destinations_next ON outspoken_destinations (turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX outspoken_destinations_held ON outspoken_destinations (origin, path) WHERE held = 1;
CREATE INDEX outspoken_gone_urls_place ON outspoken_gone_urls (origin, path);

-- Partial, so that a claim costs the same however much was delivered: one for each lane. A query must spell the literals:
-- SQLite does not match a bound parameter to a partial index.
CREATE INDEX outspoken_deliveries_ready ON outspoken_deliveries (owner, origin, path, priority DESC, due_at, seq)
    WHERE state = 'pending' AND lane = 0;
CREATE INDEX outspoken_deliveries_held ON outspoken_deliveries (origin, path, priority DESC, due_at, seq)
    WHERE state = 'pending' AND lane = 1;
CREATE INDEX outspoken_deliveries_waiting ON outspoken_deliveries (due_at, origin, path) WHERE state = 'pending' AND lane = 1;
CREATE INDEX outspoken_deliveries_scheduled ON outspoken_deliveries (due_at, origin) WHERE state = 'pending' AND lane = 2;

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
SELECT it.id, it.origin AS destination, it.state, it.reason, it.attempts,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.created_at, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.due_at, 'unixepoch') AS due_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', it.finished_at, 'unixepoch') AS finished_at, stream.key AS stream, it.position
FROM outspoken_deliveries AS it LEFT JOIN outspoken_streams AS stream ON stream.id = it.stream_id;

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

-- Everything that is asked for and has a URL, and what is plainly wrong with it. `act` is add or begin.
CREATE VIEW outspoken_asked AS SELECT NULL AS act, * FROM outspoken_add_v1;

-- The one place where a URL is read: its scheme, its origin and whether it has credentials, as relay.guard.url reads
-- them, or a refusal. Whether the URL may be called is asked at every attempt, by the relay.
CREATE VIEW outspoken_placed AS SELECT NULL AS scheme, NULL AS credentials, NULL AS origin, * FROM outspoken_asked;

-- The same, with all there is to say; `tags` are a JSON array of texts. Under a key that was used before nothing is
-- added: `outspoken_deliveries_v2` tells under which id it is kept.
CREATE VIEW outspoken_add_v2 AS
SELECT *, NULL AS due_at, NULL AS idempotency_key, NULL AS tags, NULL AS tracked, NULL AS owner, NULL AS priority
FROM outspoken_add_v1;

-- One that is pending is given up, and the next of its stream may go. One that is being attempted is left to its attempt:
-- `outspoken_deliveries_v2` tells what became of it.
CREATE VIEW outspoken_cancel_v1 AS SELECT NULL AS id LIMIT 0;

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

CREATE TRIGGER outspoken_note_end AFTER UPDATE OF finished_at ON outspoken_deliveries
WHEN NEW.tracked = 1 AND NEW.finished_at IS NOT NULL
BEGIN
    INSERT INTO outspoken_ends (seq) VALUES (NEW.seq) ON CONFLICT DO NOTHING;
END;

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

CREATE TRIGGER outspoken_ended_v1 INSTEAD OF DELETE ON outspoken_ended_v1 BEGIN
    DELETE FROM outspoken_ends WHERE seq = (SELECT seq FROM outspoken_deliveries WHERE id = OLD.id);
END;
