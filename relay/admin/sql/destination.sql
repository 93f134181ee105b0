-- A destination that is about to be changed. SQLite has one writer at a time: there is nothing to lock.
SELECT id, state FROM destinations WHERE origin = :origin
