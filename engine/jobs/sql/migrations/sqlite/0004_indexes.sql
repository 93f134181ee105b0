-- Partial, so that a lease costs the same however many jobs were done. A query must spell the literal state: SQLite
-- does not match a bound parameter to a partial index.
CREATE INDEX outspoken_jobs_queued ON outspoken_jobs (due_at, seq) WHERE state = 'queued';
CREATE INDEX outspoken_jobs_leased ON outspoken_jobs (lease_until) WHERE state = 'leased';

CREATE INDEX outspoken_jobs_of_key ON outspoken_jobs (key_id, created_at);
CREATE INDEX outspoken_jobs_created ON outspoken_jobs (created_at);
CREATE INDEX outspoken_jobs_ended ON outspoken_jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX outspoken_jobs_audio ON outspoken_jobs (finished_at) WHERE audio_kept = 1;
-- One key's turn. A job over which two engines went quiet is a suspect, and waits in a line of its own.
CREATE INDEX outspoken_jobs_turn ON outspoken_jobs (key_id, due_at, seq) WHERE state = 'queued' AND lapses < 2;
CREATE INDEX outspoken_jobs_suspect ON outspoken_jobs (lapses, due_at, seq) WHERE state = 'queued' AND lapses >= 2;

CREATE INDEX outspoken_results_ended ON outspoken_results (ended_at);
CREATE INDEX outspoken_queues_waiting ON outspoken_queues (served, key_id) WHERE queued > 0;
CREATE INDEX outspoken_uploads_created ON outspoken_uploads (created_at);

CREATE TRIGGER outspoken_jobs_added AFTER INSERT ON outspoken_jobs WHEN NEW.state IN ('queued', 'leased') BEGIN
    INSERT INTO outspoken_queues (key_id, queued, leased, bytes)
    VALUES (NEW.key_id, NEW.state = 'queued', NEW.state = 'leased', NEW.bytes)
    ON CONFLICT (key_id) DO UPDATE
    SET queued = queued + excluded.queued, leased = leased + excluded.leased, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER outspoken_jobs_changed AFTER UPDATE OF state, bytes ON outspoken_jobs WHEN OLD.state IN ('queued', 'leased') BEGIN
    UPDATE outspoken_queues
    SET queued = queued + (NEW.state = 'queued') - (OLD.state = 'queued'),
        leased = leased + (NEW.state = 'leased') - (OLD.state = 'leased'),
        bytes = bytes + NEW.bytes * (NEW.state IN ('queued', 'leased')) - OLD.bytes
    WHERE key_id = NEW.key_id;
END;
CREATE TRIGGER outspoken_jobs_removed AFTER DELETE ON outspoken_jobs WHEN OLD.state IN ('queued', 'leased') BEGIN
    UPDATE outspoken_queues
    SET queued = queued - (OLD.state = 'queued'), leased = leased - (OLD.state = 'leased'), bytes = bytes - OLD.bytes
    WHERE key_id = OLD.key_id;
END;
