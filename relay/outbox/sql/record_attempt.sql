INSERT INTO attempts (seq, number, started_at, lag, duration, outcome, status, peer, detail, excerpt)
VALUES (:seq, :number, :started_at, :lag, :duration, :outcome, :status, :peer, :detail, :excerpt)
