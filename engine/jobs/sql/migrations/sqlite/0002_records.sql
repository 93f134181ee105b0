-- Jobs that can be asked about later: whose they are, what came of them, and audio that was sent ahead of its job.

-- Columns, because lists and turns go by them. No key ('') where none was asked for.
ALTER TABLE jobs ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN dialect TEXT NOT NULL DEFAULT 'deepgram';
ALTER TABLE jobs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0);  -- of its audio, once they have come
ALTER TABLE jobs ADD COLUMN audio_kept INTEGER NOT NULL DEFAULT 0 CHECK (audio_kept IN (0, 1));  -- beyond its end
ALTER TABLE jobs ADD COLUMN lapses INTEGER NOT NULL DEFAULT 0 CHECK (lapses >= 0);  -- engines that went quiet over it
ALTER TABLE jobs ADD COLUMN started_at REAL;  -- when it was first leased
ALTER TABLE jobs ADD COLUMN duration REAL CHECK (duration >= 0);  -- seconds of audio, once they were heard

UPDATE jobs SET key_id = coalesce(json_extract(request, '$.key_id'), ''), dialect = json_extract(request, '$.dialect'),
                bytes = json_extract(media, '$.size');

CREATE INDEX jobs_of_key ON jobs (key_id, created_at);
CREATE INDEX jobs_created ON jobs (created_at);
CREATE INDEX jobs_ended ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_audio ON jobs (finished_at) WHERE audio_kept = 1;
-- One key's turn. A job over which two engines went quiet is a suspect, and waits in a line of its own.
CREATE INDEX jobs_turn ON jobs (key_id, due_at, seq) WHERE state = 'queued' AND lapses < 2;
CREATE INDEX jobs_suspect ON jobs (lapses, due_at, seq) WHERE state = 'queued' AND lapses >= 2;

-- What came of a job, in the engine's own words. Apart from the jobs, so that no list reads a transcript.
CREATE TABLE results (
    seq      INTEGER PRIMARY KEY REFERENCES jobs (seq),
    ended_at REAL NOT NULL,
    result   TEXT NOT NULL CHECK (substr(result, 1, 1) = '{')
) STRICT;
CREATE INDEX results_ended ON results (ended_at);

-- One row a key: its unfinished jobs, counted by the triggers below in the very transaction that changes them, so that
-- neither a bound nor a turn has to read the queue. `served` orders the turns: the key served longest ago is next.
CREATE TABLE queues (
    key_id TEXT    NOT NULL PRIMARY KEY,
    queued INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    leased INTEGER NOT NULL DEFAULT 0 CHECK (leased >= 0),
    bytes  INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    served INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX queues_waiting ON queues (served, key_id) WHERE queued > 0;

INSERT INTO queues (key_id, queued, leased, bytes)
SELECT key_id, sum(state = 'queued'), sum(state = 'leased'), sum(bytes) FROM jobs
WHERE state IN ('queued', 'leased') GROUP BY key_id;

CREATE TRIGGER jobs_added AFTER INSERT ON jobs WHEN NEW.state IN ('queued', 'leased') BEGIN
    INSERT INTO queues (key_id, queued, leased, bytes)
    VALUES (NEW.key_id, NEW.state = 'queued', NEW.state = 'leased', NEW.bytes)
    ON CONFLICT (key_id) DO UPDATE
    SET queued = queued + excluded.queued, leased = leased + excluded.leased, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER jobs_changed AFTER UPDATE OF state, bytes ON jobs WHEN OLD.state IN ('queued', 'leased') BEGIN
    UPDATE queues
    SET queued = queued + (NEW.state = 'queued') - (OLD.state = 'queued'),
        leased = leased + (NEW.state = 'leased') - (OLD.state = 'leased'),
        bytes = bytes + NEW.bytes * (NEW.state IN ('queued', 'leased')) - OLD.bytes
    WHERE key_id = NEW.key_id;
END;
CREATE TRIGGER jobs_removed AFTER DELETE ON jobs WHEN OLD.state IN ('queued', 'leased') BEGIN
    UPDATE queues
    SET queued = queued - (OLD.state = 'queued'), leased = leased - (OLD.state = 'leased'), bytes = bytes - OLD.bytes
    WHERE key_id = OLD.key_id;
END;

-- Audio sent ahead of the jobs that will use it. It lies in the audio folder under its own id; each job made of it has a
-- link under the job's id, so that both go independently.
CREATE TABLE uploads (
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
CREATE INDEX uploads_created ON uploads (created_at);

-- How much one key may have waiting and running at once; NULL: the settings' bound, and no bound.
ALTER TABLE api_keys ADD COLUMN max_queued INTEGER CHECK (max_queued > 0);
ALTER TABLE api_keys ADD COLUMN max_running INTEGER CHECK (max_running > 0);
