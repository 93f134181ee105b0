-- The gauges that are one number each.
SELECT
    (SELECT count(*) FROM deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM deliveries WHERE state = 'dead') AS dead,
    (SELECT created_at FROM deliveries WHERE seq = least(
        (SELECT min(seq) FROM deliveries WHERE state = 'pending'),
        (SELECT min(seq) FROM deliveries WHERE state = 'leased'))) AS oldest_created_at,
    (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM deliveries_seq_seq) AS high_water,
    (SELECT min(created_at) FROM signing_keys WHERE retires_at IS NULL) AS key_created_at,
    (SELECT max(at) FROM audit WHERE act = 'backup') AS backup_at
