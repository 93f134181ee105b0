-- The streams of some deliveries, a JSON array of seqs, before any of those is touched: nothing joins a stream, and
-- nothing of it ends, until the act is committed. In one order, always, so that two acts do not wait for each other.
SELECT id FROM streams
WHERE id IN (SELECT stream_id FROM deliveries
             WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))))
ORDER BY id FOR NO KEY UPDATE
