INSERT INTO attempts
    (seq, number, started_at, lag, duration, outcome, status, peer, detail, timing, request_headers, answer_headers,
     excerpt)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
