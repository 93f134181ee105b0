-- The gauges that are no matter of one destination, each from a partial index and never over delivered history (hence
-- INDEXED BY).
SELECT
    (SELECT count(*) FROM deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead,
    (SELECT created_at FROM deliveries WHERE seq = min(
        coalesce((SELECT min(seq) FROM deliveries INDEXED BY deliveries_due WHERE state = 'pending'), 9223372036854775807),
        coalesce((SELECT min(seq) FROM deliveries INDEXED BY deliveries_leased WHERE state = 'leased'), 9223372036854775807))) AS oldest_created_at,
    -- One writer at a time: what has a number is committed, and nothing else is under way.
    (SELECT seq FROM sqlite_sequence WHERE name = 'deliveries') AS last_seq, 0 AS oldest_transaction, 0 AS next_transaction,
    (SELECT min(created_at) FROM signing_keys WHERE retires_at IS NULL) AS key_created_at,
    (SELECT max(at) FROM audit WHERE act = 'backup') AS backup_at
