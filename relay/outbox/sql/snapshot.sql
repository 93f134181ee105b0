-- The gauges, each from a partial index and never over delivered history (hence INDEXED BY).
SELECT
    (SELECT count(*) FROM deliveries WHERE state = 'pending' AND due_at <= :now) AS ready,
    (SELECT count(*) FROM deliveries WHERE state = 'pending' AND due_at > :now) AS scheduled,
    (SELECT count(*) FROM deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead,
    (SELECT min(due_at) FROM deliveries WHERE state = 'pending') AS oldest_due_at,
    (SELECT created_at FROM deliveries WHERE seq = min(
        coalesce((SELECT min(seq) FROM deliveries INDEXED BY deliveries_due WHERE state = 'pending'), 9223372036854775807),
        coalesce((SELECT min(seq) FROM deliveries INDEXED BY deliveries_leased WHERE state = 'leased'), 9223372036854775807))) AS oldest_created_at,
    (SELECT seq FROM sqlite_sequence WHERE name = 'deliveries') AS high_water
