-- Their holder lives: a JSON array of ids.
UPDATE streams SET holder_until = :until WHERE id IN (SELECT value FROM json_each(:ids)) AND holder = :holder
