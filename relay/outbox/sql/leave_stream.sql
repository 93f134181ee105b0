-- What was to be added turned out to be there already: it leaves no gap behind.
UPDATE streams SET position = position - 1 WHERE key = :stream
