-- What a producer may say besides of a delivery: a key under which it is added once, tags to find it by, when it is due, and
-- that its end is to be told. Who says none of it pays for none of it.
ALTER TABLE outspoken_deliveries
    -- Unique as long as the delivery is kept: whoever adds it again under this key is answered with the first one's id.
    ADD COLUMN idempotency_key TEXT CHECK (length(idempotency_key) BETWEEN 1 AND 256);
ALTER TABLE outspoken_deliveries
    ADD COLUMN tracked INTEGER NOT NULL DEFAULT 0 CHECK (tracked IN (0, 1));  -- 1: its end goes into outspoken_ends
CREATE UNIQUE INDEX outspoken_deliveries_idempotency ON outspoken_deliveries (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Words that deliveries are found by.
CREATE TABLE outspoken_tags (
    seq INTEGER NOT NULL REFERENCES outspoken_deliveries (seq) ON DELETE CASCADE,
    tag TEXT    NOT NULL CHECK (length(tag) BETWEEN 1 AND 128),
    PRIMARY KEY (seq, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX outspoken_tags_found ON outspoken_tags (tag, seq);

-- Tracked deliveries whose end nobody has taken note of. They are taken out in the transaction of whoever acts on them.
CREATE TABLE outspoken_ends (
    seq INTEGER PRIMARY KEY REFERENCES outspoken_deliveries (seq) ON DELETE CASCADE
) STRICT;
CREATE TRIGGER outspoken_note_end AFTER UPDATE OF finished_at ON outspoken_deliveries
WHEN NEW.tracked = 1 AND NEW.finished_at IS NOT NULL
BEGIN
    INSERT INTO outspoken_ends (seq) VALUES (NEW.seq) ON CONFLICT DO NOTHING;
END;
