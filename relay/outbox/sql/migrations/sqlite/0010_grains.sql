-- Deliveries carry where they go and whose they are as text: a producer writes no row that another may write. A row about
-- a destination is the relay's or an operator's. The foreign key cannot be dropped, so both tables are made anew; what
-- refers to deliveries is counted when the transaction commits.
PRAGMA defer_foreign_keys = ON;

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
     finished_at, reason)
SELECT seq, id, place,
       CASE WHEN instr(rest, '/') > 0 AND instr(rest, '/') < min(instr(rest || '?', '?'), instr(rest || '#', '#'))
            THEN substr(substr(rest, instr(rest, '/'), min(instr(rest || '?', '?'), instr(rest || '#', '#')) - instr(rest, '/')), 1, 255)
            ELSE '/' END,
       url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at, scheduled_from, schedule,
       stream_id, position, pointer, state, 2, attempts, lapses, lease_token, lease_until, finished_at, reason
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
