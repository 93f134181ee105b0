-- The same as list_all, of one key, through the index that begins with it.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at,
       jobs.duration,
       CASE WHEN CAST(:with_results AS boolean) THEN (SELECT result FROM results WHERE results.seq = jobs.seq) END
FROM jobs
WHERE jobs.key_id = :key_id AND (jobs.created_at, jobs.seq) < (:older, :older_seq) AND jobs.created_at >= :since
  AND (CAST(:dialect AS text) IS NULL OR jobs.dialect = :dialect)
  AND (CAST(:states AS json) IS NULL OR jobs.state IN (SELECT json_array_elements_text(CAST(:states AS json))))
  AND (NOT CAST(:undelivered AS boolean) OR EXISTS (SELECT 1 FROM deliveries
       WHERE deliveries.id = jobs.id AND deliveries.state IN ('pending', 'leased', 'dead')))
  AND (CAST(:metadata AS json) IS NULL OR NOT EXISTS (
       SELECT 1 FROM json_each_text(CAST(:metadata AS json)) AS wanted WHERE NOT EXISTS (
       SELECT 1 FROM json_each_text(CASE WHEN strpos(CAST(jobs.request AS text), '\u0000') = 0
                                         THEN jobs.request -> 'options' -> 'custom_metadata' END) AS had
       WHERE had.key = wanted.key AND had.value = wanted.value)))
ORDER BY jobs.created_at DESC, jobs.seq DESC LIMIT :limit OFFSET :offset
