-- The engine's durable queue and its API keys, in the outbox's own file: a job ends and its delivery appears in one
-- transaction. Times are UTC seconds since the epoch.

-- One accepted request. Its audio lies in the audio folder, in a file named after the job. The row stays as history.
CREATE TABLE outspoken_jobs (
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
    -- Columns, because lists and turns go by them. No key ('') where none was asked for.
    key_id      TEXT    NOT NULL DEFAULT '',
    dialect     TEXT    NOT NULL DEFAULT 'deepgram',
    bytes       INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),  -- of its audio, once they have come
    audio_kept  INTEGER NOT NULL DEFAULT 0 CHECK (audio_kept IN (0, 1)),  -- beyond its end
    lapses      INTEGER NOT NULL DEFAULT 0 CHECK (lapses >= 0),  -- engines that went quiet over it
    started_at  REAL,  -- when it was first leased
    duration    REAL    CHECK (duration >= 0),  -- seconds of audio, once they were heard
    CHECK ((state = 'leased') = (lease_token IS NOT NULL)),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'failed')) = (finished_at IS NOT NULL)),
    CHECK ((state = 'failed') = (error_code IS NOT NULL)),
    CHECK (has_audio OR (state <> 'done' AND json_extract(request, '$.audio_url') IS NOT NULL))
) STRICT;

-- What came of a job, in the engine's own words. Apart from the jobs, so that no list reads a transcript.
CREATE TABLE outspoken_results (
    seq      INTEGER PRIMARY KEY REFERENCES outspoken_jobs (seq),
    ended_at REAL NOT NULL,
    result   TEXT NOT NULL CHECK (substr(result, 1, 1) = '{')
) STRICT;

-- One row a key: its unfinished jobs, counted by the triggers below in the very transaction that changes them, so that
-- neither a bound nor a turn has to read the queue. `served` orders the turns: the key served longest ago is next.
CREATE TABLE outspoken_queues (
    key_id TEXT    NOT NULL PRIMARY KEY,
    queued INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    leased INTEGER NOT NULL DEFAULT 0 CHECK (leased >= 0),
    bytes  INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    served INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Audio sent ahead of the jobs that will use it. It lies in the audio folder under its own id; each job made of it has a
-- link under the job's id, so that both go independently.
CREATE TABLE outspoken_uploads (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64 AND id NOT GLOB '*[^0-9A-Za-z_-]*'),
    key_id     TEXT    NOT NULL,
    filename   TEXT    NOT NULL,
    extension  TEXT    NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    sha256     TEXT    NOT NULL,
    duration   REAL    NOT NULL CHECK (duration >= 0),
    channels   INTEGER NOT NULL CHECK (channels > 0),
    created_at REAL    NOT NULL
) STRICT, WITHOUT ROWID;

-- Who may call. `id` is public (receivers get it as `dg-token`); of the key itself only the SHA-256 is kept.
CREATE TABLE outspoken_api_keys (
    id         TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 16 AND id NOT GLOB '*[^0-9a-f]*'),
    name       TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    sha256     BLOB NOT NULL CHECK (length(sha256) = 32),
    created_at REAL NOT NULL,
    -- How much one key may have waiting and running at once; NULL: the settings' bound, and no bound.
    max_queued INTEGER CHECK (max_queued > 0),
    max_running INTEGER CHECK (max_running > 0)
) STRICT, WITHOUT ROWID;
