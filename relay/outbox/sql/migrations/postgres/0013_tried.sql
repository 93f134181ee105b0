-- A host that was never tried waits for its first attempt among its like, and not among those that do not answer.
ALTER TABLE outspoken.destinations ADD COLUMN tried INTEGER NOT NULL DEFAULT 1 CHECK (tried IN (0, 1));
DROP INDEX outspoken.destinations_turn;
CREATE INDEX destinations_turn ON outspoken.destinations (silent, tried, owner, turn_at) WHERE turn_at IS NOT NULL;
