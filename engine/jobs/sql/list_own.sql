-- The same as list_all, of one key, through the index that begins with it.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at, jobs.duration,
       CASE WHEN :with_results THEN (SELECT result FROM results WHERE results.seq = jobs.seq) END
FROM jobs
WHERE jobs.key_id = :key_id AND (jobs.created_at, jobs.seq) < (:older, :older_seq) AND jobs.created_at >= :since
  AND (:dialect IS NULL OR jobs.dialect = :dialect)
  AND (:states IS NULL OR jobs.state IN (SELECT value FROM json_each(:states)))
  AND (NOT :undelivered OR EXISTS (SELECT 1 FROM deliveries
       WHERE deliveries.id = jobs.id AND deliveries.state IN ('pending', 'leased', 'dead')))
  AND (:metadata IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(:metadata) AS wanted WHERE NOT EXISTS (
       SELECT 1 FROM json_each(jobs.request, '$.options.custom_metadata') AS had
       WHERE had.key = wanted.key AND wanted.value =
             CASE had.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(had.value AS TEXT) END)))
ORDER BY jobs.created_at DESC, jobs.seq DESC LIMIT :limit OFFSET :offset
