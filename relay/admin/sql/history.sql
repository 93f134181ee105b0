SELECT number, started_at, lag, duration, outcome, status, peer, detail, timing, request_headers, answer_headers, excerpt
FROM attempts WHERE seq = :seq ORDER BY number
