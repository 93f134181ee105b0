-- Their producer lives: a JSON array of keys.
UPDATE streams SET producer_until = :until
WHERE key = ANY(ARRAY(SELECT value FROM json_array_elements_text(CAST(:keys AS json)))) AND state = 'open' AND producer_until < :until
