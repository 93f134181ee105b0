-- The outbox. Times are UTC seconds since the epoch, sizes bytes.

-- Scheme, host and effective port of a callback URL: caps and learnt body limits belong to it.
CREATE TABLE destinations (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    origin           TEXT    NOT NULL UNIQUE CHECK (origin LIKE '%_://_%:_%'),
    largest_accepted INTEGER CHECK (largest_accepted >= 0),
    smallest_refused INTEGER CHECK (smallest_refused >= 0)
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
    due_at         REAL    NOT NULL,
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
    CHECK (state <> 'delivered' OR attempts > 0)
) STRICT;

-- Partial, so that a claim costs the same however many rows were delivered. A query must spell the literal
-- `state = 'pending'`: SQLite does not match a bound parameter to a partial index.
CREATE INDEX deliveries_due ON deliveries (destination_id, due_at, seq) WHERE state = 'pending';
CREATE INDEX deliveries_next ON deliveries (due_at) WHERE state = 'pending';
CREATE INDEX deliveries_leased ON deliveries (destination_id, lease_until) WHERE state = 'leased';
CREATE INDEX deliveries_dead ON deliveries (finished_at) WHERE state = 'dead';

-- Apart from the deliveries, so that no claim or retry rewrites a body.
CREATE TABLE bodies (
    seq  INTEGER PRIMARY KEY REFERENCES deliveries (seq),
    body BLOB NOT NULL
) STRICT;

-- What happened, attempt by attempt. `outcome` is a closed set (relay.model.Outcome); `excerpt` the start of the answer.
CREATE TABLE attempts (
    seq        INTEGER NOT NULL REFERENCES deliveries (seq),
    number     INTEGER NOT NULL CHECK (number > 0),
    started_at REAL    NOT NULL,
    lag        REAL    NOT NULL CHECK (lag >= 0),
    duration   REAL    NOT NULL CHECK (duration >= 0),
    outcome    TEXT    NOT NULL,
    status     INTEGER CHECK (status BETWEEN 100 AND 999),
    peer       TEXT,
    detail     TEXT    NOT NULL DEFAULT '',
    excerpt    BLOB    NOT NULL DEFAULT x'',
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;
