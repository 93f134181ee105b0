-- One change of keys at a time. SQLite has one writer at a time anyway.
SELECT 1
