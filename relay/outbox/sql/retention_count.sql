SELECT (SELECT count(*) FROM attempts WHERE seq = :seq) AS attempts, (SELECT count(*) FROM bodies WHERE seq = :seq) AS bodies
