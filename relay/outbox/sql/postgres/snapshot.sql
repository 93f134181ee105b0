-- The gauges that are one number each.
SELECT
    (SELECT count(*) FROM deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead,
    (SELECT created_at FROM deliveries WHERE seq = least(
        (SELECT min(seq) FROM deliveries WHERE state = 'pending'),
        (SELECT min(seq) FROM deliveries WHERE state = 'leased'))) AS oldest_created_at,
    -- Numbers are given out before the commit: one below the last may be under way still.
    (SELECT max(seq) FROM deliveries) AS last_seq,
    CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS oldest_transaction,
    CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS next_transaction,
    (SELECT min(created_at) FROM signing_keys WHERE retires_at IS NULL) AS key_created_at,
    (SELECT max(at) FROM audit WHERE act = 'backup') AS backup_at
