-- The engine's durable queue and its API keys, in the outbox's own file: a job ends and its delivery appears in one
-- transaction. Times are UTC seconds since the epoch.

-- One accepted request. Its audio lies in the audio folder, in a file named after the job. The row stays as history.
CREATE TABLE jobs (
    -- AUTOINCREMENT: without it SQLite hands out the ids of deleted rows again.
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64 AND id NOT GLOB '*[^0-9A-Za-z_-]*'),
    request     TEXT    NOT NULL CHECK (json_type(request) = 'object'),
    media       TEXT    NOT NULL CHECK (json_type(media) = 'object'),
    has_audio   INTEGER NOT NULL CHECK (has_audio IN (0, 1)),  -- 0: still to be fetched from the request's audio_url
    created_at  REAL    NOT NULL,
    due_at      REAL    NOT NULL,
    state       TEXT    NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'leased', 'done', 'failed')),
    crashes     INTEGER NOT NULL DEFAULT 0 CHECK (crashes >= 0),  -- recogniser processes that it ended; never engines
    lease_token TEXT,
    lease_until REAL,
    finished_at REAL,
    error_code  TEXT,
    CHECK ((state = 'leased') = (lease_token IS NOT NULL)),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (finished_at IS NOT NULL)),
    CHECK ((state = 'failed') = (error_code IS NOT NULL)),
    CHECK (has_audio OR (state <> 'done' AND json_extract(request, '$.audio_url') IS NOT NULL))
) STRICT;

-- Partial, so that a lease costs the same however many jobs were done. A query must spell the literal state: SQLite
-- does not match a bound parameter to a partial index.
CREATE INDEX jobs_queued ON jobs (due_at, seq) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'leased';

-- Who may call. `id` is public (receivers get it as `dg-token`); of the key itself only the SHA-256 is kept.
CREATE TABLE api_keys (
    id         TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 16 AND id NOT GLOB '*[^0-9a-f]*'),
    name       TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    sha256     BLOB NOT NULL CHECK (length(sha256) = 32),
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
