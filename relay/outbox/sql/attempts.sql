-- What happened to one delivery, as far as it is kept.
SELECT number, started_at, duration, outcome, status, detail
FROM attempts WHERE seq = (SELECT seq FROM deliveries WHERE id = :id) ORDER BY number
