-- The streams of some deliveries, a JSON array of seqs. SQLite has one writer at a time: there is nothing to lock.
SELECT stream_id FROM deliveries WHERE seq IN (SELECT value FROM json_each(:seqs)) AND stream_id IS NOT NULL
