-- What came of a job that is to be forgotten.
DELETE FROM results WHERE seq = :seq
