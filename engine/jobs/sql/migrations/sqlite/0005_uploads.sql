-- Uploads that no job has named yet wait too: their bytes count against the bound of what may wait. From then on those of
-- the job do. What was uploaded before is not counted.
ALTER TABLE outspoken_uploads ADD COLUMN waits INTEGER NOT NULL DEFAULT 1 CHECK (waits IN (0, 1));
UPDATE outspoken_uploads SET waits = 0;

CREATE TRIGGER outspoken_uploads_added AFTER INSERT ON outspoken_uploads WHEN NEW.waits = 1 BEGIN
    INSERT INTO outspoken_queues (key_id, queued, leased, bytes) VALUES (NEW.key_id, 0, 0, NEW.size)
    ON CONFLICT (key_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER outspoken_uploads_named AFTER UPDATE OF waits ON outspoken_uploads WHEN OLD.waits = 1 BEGIN
    UPDATE outspoken_queues SET bytes = bytes + NEW.size * NEW.waits - OLD.size WHERE key_id = NEW.key_id;
END;
CREATE TRIGGER outspoken_uploads_removed AFTER DELETE ON outspoken_uploads WHEN OLD.waits = 1 BEGIN
    UPDATE outspoken_queues SET bytes = bytes - OLD.size WHERE key_id = OLD.key_id;
END;
