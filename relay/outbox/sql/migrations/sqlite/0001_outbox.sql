-- The outbox. Times are UTC seconds since the epoch, sizes bytes.

-- Scheme, host and effective port of a callback URL: caps, breakers, pauses and learnt body limits belong to it.
CREATE TABLE destinations (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    origin           TEXT    NOT NULL UNIQUE CHECK (origin LIKE '%_://_%:_%'),
    -- What operators said: a paused or disabled destination is not called. A 410 disables it too.
    state            TEXT    NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    -- The breaker: closed while open_until is NULL; open until then; after that one delivery at a time may probe.
    failures         INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    open_until       REAL,
    pause            REAL    NOT NULL DEFAULT 0 CHECK (pause >= 0),
    largest_accepted INTEGER CHECK (largest_accepted >= 0),
    smallest_refused INTEGER CHECK (smallest_refused >= 0)
) STRICT;

-- Deliveries that go strictly one after another. `on_dead` says what a dead one does to those behind it.
CREATE TABLE streams (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    key      TEXT    NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 128),
    on_dead  TEXT    NOT NULL DEFAULT 'skip' CHECK (on_dead IN ('skip', 'kill')),
    state    TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'killed')),
    position INTEGER NOT NULL DEFAULT 0 CHECK (position >= 0)  -- of the delivery added last
) STRICT;

-- One result for one callback URL. The row is small because every claim and every settlement rewrites it.
CREATE TABLE deliveries (
    -- AUTOINCREMENT: without it SQLite hands out the ids of deleted rows again.
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 128),
    destination_id INTEGER NOT NULL REFERENCES destinations (id),
    url            TEXT    NOT NULL,
    method         TEXT    NOT NULL DEFAULT 'POST' CHECK (method IN ('POST', 'PUT')),
    kind           TEXT    NOT NULL DEFAULT 'final' CHECK (kind IN ('final', 'partial', 'error')),
    content_type   TEXT    NOT NULL DEFAULT 'application/json',
    headers        TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(headers) = 'object'),
    traceparent    TEXT,
    body_bytes     INTEGER NOT NULL CHECK (body_bytes >= 0),
    created_at     REAL    NOT NULL,
    due_at         REAL,     -- NULL: it waits for the one before it in its stream
    scheduled_from REAL,     -- when its schedule began; NULL: with created_at, as it was never replayed
    schedule       TEXT CHECK (schedule IN ('fixed', 'exponential')),  -- NULL: the relay's own
    stream_id      INTEGER REFERENCES streams (id),
    position       INTEGER CHECK (position > 0),
    pointer        INTEGER NOT NULL DEFAULT 0 CHECK (pointer IN (0, 1)),  -- 1: send a link instead of the body
    state          TEXT    NOT NULL DEFAULT 'pending'
                   CHECK (state IN ('pending', 'leased', 'delivered', 'dead', 'cancelled')),
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
    CHECK (due_at IS NOT NULL OR state <> 'leased')
) STRICT;

-- Partial, so that a claim costs the same however many rows were delivered. A query must spell the literal
-- `state = 'pending'`: SQLite does not match a bound parameter to a partial index.
CREATE INDEX deliveries_due ON deliveries (destination_id, due_at, seq) WHERE state = 'pending';
CREATE INDEX deliveries_next ON deliveries (due_at) WHERE state = 'pending';
CREATE INDEX deliveries_leased ON deliveries (destination_id, lease_until) WHERE state = 'leased';
CREATE UNIQUE INDEX deliveries_stream ON deliveries (stream_id, position)
    WHERE stream_id IS NOT NULL AND state IN ('pending', 'leased');
CREATE INDEX deliveries_dead ON deliveries (finished_at) WHERE state = 'dead';

-- Apart from the deliveries, so that no claim or retry rewrites a body.
CREATE TABLE bodies (
    seq  INTEGER PRIMARY KEY REFERENCES deliveries (seq),
    body BLOB NOT NULL
) STRICT;

-- What happened, attempt by attempt. `outcome` is a closed set (relay.model.Outcome); `excerpt` the start of the answer.
CREATE TABLE attempts (
    seq             INTEGER NOT NULL REFERENCES deliveries (seq),
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

-- Keys that sign deliveries: of one destination, or of all (destination_id NULL). Signing needs them in the clear.
CREATE TABLE signing_keys (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    destination_id INTEGER REFERENCES destinations (id),
    key            TEXT    NOT NULL CHECK (key LIKE 'whsec\__%' ESCAPE '\' OR key LIKE 'whsk\__%' ESCAPE '\'),
    created_at     REAL    NOT NULL,
    retires_at     REAL  -- NULL: it signs until it is replaced
) STRICT;

-- Relays at work on this file: each takes its share of a destination's cap.
CREATE TABLE relays (
    holder  TEXT PRIMARY KEY,
    seen_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- What operators did, and by what means.
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     REAL NOT NULL,
    actor  TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('cli', 'api', 'console', 'relay')),
    act    TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_type(detail) = 'object')
) STRICT;

-- What both processes have to know and nobody else may: the key under the links of pointers.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO secrets (name, value) VALUES ('pointer', randomblob(32));
