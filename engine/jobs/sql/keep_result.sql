-- What came of a job, for whoever asks later.
INSERT INTO results (seq, ended_at, result) VALUES (:seq, :now, :result)
