-- Their producer lives: a JSON array of keys.
UPDATE streams SET producer_until = :until
WHERE key IN (SELECT value FROM json_each(:keys)) AND state = 'open' AND producer_until < :until
