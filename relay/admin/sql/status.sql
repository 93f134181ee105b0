SELECT
    (SELECT count(*) FROM deliveries WHERE state = 'pending' AND due_at <= :now) AS ready,
    (SELECT count(*) FROM deliveries WHERE state = 'pending' AND due_at > :now) AS scheduled,
    (SELECT count(*) FROM deliveries WHERE state = 'pending' AND due_at IS NULL) AS in_line,
    (SELECT count(*) FROM deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead,
    (SELECT min(due_at) FROM deliveries WHERE state = 'pending') AS oldest_due_at,
    (SELECT count(*) FROM deliveries WHERE state = 'dead' AND finished_at >= :midnight) AS dead_today,
    (SELECT count(*) FROM relays WHERE seen_at >= :seen_since) AS relays,
    (SELECT max(seen_at) FROM relays) AS relay_seen_at
