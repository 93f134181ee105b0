-- Their holder lives: a JSON array of ids.
UPDATE streams SET holder_until = :until WHERE id = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)))) AND holder = :holder
