-- Streams that live: to a WebSocket, or ended by their producer. A CHECK cannot be changed, so the table is made anew; the
-- deliveries that refer to it are counted when the transaction commits.
PRAGMA defer_foreign_keys = ON;

CREATE TABLE streams_before AS SELECT * FROM streams;
CREATE TABLE streams_numbered AS SELECT name, seq FROM sqlite_sequence WHERE name = 'streams';
DROP TABLE streams;

-- Deliveries that go strictly one after another. `on_dead` says what a dead one does to those behind it.
CREATE TABLE streams (
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
    CHECK ((state = 'killed') = (reason IS NOT NULL)),
    CHECK ((state IN ('closed', 'killed')) = (finished_at IS NOT NULL)),
    CHECK ((transport = 'ws') = (url IS NOT NULL)),
    CHECK ((holder IS NULL) = (holder_until IS NULL)),
    CHECK (holder IS NULL OR (transport = 'ws' AND state IN ('open', 'ended')))
) STRICT;

INSERT INTO streams (id, key, on_dead, state, reason, position, finished_at)
SELECT id, key, on_dead, state, iif(state = 'killed', 'delivery_dead', NULL), position,
       iif(state = 'killed', (julianday('now') - 2440587.5) * 86400.0, NULL)
FROM streams_before;
-- Numbers of streams that are forgotten are not given out again.
DELETE FROM sqlite_sequence WHERE name = 'streams';
INSERT INTO sqlite_sequence (name, seq) SELECT name, seq FROM streams_numbered;
DROP TABLE streams_before;
DROP TABLE streams_numbered;

-- Those that somebody has to look after, however many others are open or kept. A query must spell the same conditions.
CREATE INDEX streams_live ON streams (transport, state)
    WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL);
