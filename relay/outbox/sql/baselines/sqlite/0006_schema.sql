-- The tables of a new outbox. Times are UTC seconds since the epoch, sizes bytes.

-- Scheme, host and effective port of a callback URL: caps, breakers, pauses and learnt body limits belong to it.
CREATE TABLE outspoken_destinations (
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
CREATE TABLE outspoken_streams (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    key            TEXT    NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 128),
    on_dead        TEXT    NOT NULL DEFAULT 'skip' CHECK (on_dead IN ('skip', 'kill')),
    -- http: a request for each delivery. ws: one socket for all of them; such deliveries are never claimed one by one.
    transport      TEXT    NOT NULL DEFAULT 'http' CHECK (transport IN ('http', 'ws')),
    state          TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'ended', 'closed', 'killed')),
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
    id             TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 128),
    destination_id INTEGER NOT NULL REFERENCES outspoken_destinations (id),
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
    stream_id      INTEGER REFERENCES outspoken_streams (id),
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
    -- Of a delivery that is yet to be routed. Here there is none: there is one writer at a time, and a producer makes the
    -- destination itself. On PostgreSQL it would be waited for.
    origin         TEXT CHECK (origin IS NULL),
    CHECK ((state = 'leased') = (lease_token IS NOT NULL)),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('delivered', 'dead', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((state = 'dead') = (reason IS NOT NULL)),
    CHECK (state <> 'delivered' OR attempts > 0),
    CHECK ((stream_id IS NULL) = (position IS NULL)),
    CHECK (due_at IS NOT NULL OR stream_id IS NOT NULL),
    CHECK (due_at IS NOT NULL OR state <> 'leased')
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

-- Keys that sign deliveries: of one destination, or of all (destination_id NULL). Signing needs them in the clear.
CREATE TABLE outspoken_signing_keys (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    destination_id INTEGER REFERENCES outspoken_destinations (id),
    key            TEXT    NOT NULL CHECK (key LIKE 'whsec\__%' ESCAPE '\' OR key LIKE 'whsk\__%' ESCAPE '\'),
    created_at     REAL    NOT NULL,
    retires_at     REAL  -- NULL: it signs until it is replaced
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
