-- Where PostgreSQL's words are not SQLite's: those of sqlite.sql, block by block. What is not here is the same on both.

-- backlog --
-- What a bound goes by: jobs that wait and bytes of audio in all, and jobs that wait of one key with its own bound.
SELECT CAST(coalesce(sum(queued), 0) AS bigint), CAST(coalesce(sum(bytes), 0) AS bigint),
       coalesce((SELECT queued FROM outspoken_queues WHERE key_id = :key_id), 0),
       (SELECT max_queued FROM outspoken_api_keys WHERE id = :key_id)
FROM outspoken_queues

-- sweep --
-- A lease whose engine went quiet: the job is free again. It is counted, for the audio may be what ended the engine.
-- Another engine may be sweeping too.
UPDATE outspoken_jobs SET state = 'queued', lapses = lapses + 1, lease_token = NULL, lease_until = NULL
WHERE seq = ANY(ARRAY(SELECT seq FROM outspoken_jobs WHERE state = 'leased' AND lease_until <= :now FOR UPDATE SKIP LOCKED))

-- suspects --
-- Whether any suspect waits. If so, whoever asks is the only engine to choose one until its transaction ends.
SELECT pg_advisory_xact_lock(7202612) FROM outspoken_jobs WHERE state = 'queued' AND lapses >= 2 AND due_at <= :now LIMIT 1

-- suspect --
-- The next suspect, if none is being worked on: whoever ends an engine is alone with it, and nobody shares the blame.
-- The least suspicious first, so that those who only stood beside are done before the culprit has its next try.
SELECT seq FROM outspoken_jobs
WHERE state = 'queued' AND lapses >= 2 AND due_at <= :now
  AND NOT EXISTS (SELECT 1 FROM outspoken_jobs WHERE state = 'leased' AND lapses >= 2)
ORDER BY lapses, due_at, seq LIMIT 1 FOR UPDATE SKIP LOCKED

-- ids --
-- The ids that begin so, :limit at the most.
SELECT id FROM outspoken_jobs WHERE starts_with(id, :beginning) ORDER BY id LIMIT :limit

-- turns --
-- The keys whose turn it is, :room at the most, the one served longest ago first, each with the number of jobs that it
-- may start now (NULL: any). Their rows, and those of the suspects' keys, are held until the lease is committed, and
-- judged as they are then: that is how a key's bound holds over all engines. Held in the order of the keys, so that no
-- two engines wait for each other.
WITH chosen AS (
    SELECT queues.key_id FROM outspoken_queues AS queues
    LEFT JOIN outspoken_api_keys AS api_keys ON api_keys.id = queues.key_id
    WHERE queues.queued > 0 AND queues.leased < coalesce(api_keys.max_running, 9223372036854775807)
      AND (SELECT min(due_at) FROM outspoken_jobs WHERE state = 'queued' AND lapses < 2 AND key_id = queues.key_id) <= :now
    ORDER BY queues.served, queues.key_id LIMIT :room
), held AS MATERIALIZED (
    SELECT key_id, leased, served FROM outspoken_queues AS queues
    WHERE key_id IN (SELECT key_id FROM chosen)
       OR key_id IN (SELECT key_id FROM outspoken_jobs WHERE seq = ANY(ARRAY(
              SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:suspects AS json)))))
    ORDER BY key_id FOR NO KEY UPDATE
)
SELECT held.key_id, api_keys.max_running - held.leased
FROM held JOIN chosen ON chosen.key_id = held.key_id
LEFT JOIN outspoken_api_keys AS api_keys ON api_keys.id = held.key_id
WHERE held.leased < coalesce(api_keys.max_running, 9223372036854775807)
ORDER BY held.served, held.key_id

-- candidates --
-- The first :room due jobs of each key in a JSON array: one seek a key. Their owner may be deleting one this moment.
SELECT head.key_id, head.seq
FROM json_array_elements_text(CAST(:keys AS json)) AS wanted CROSS JOIN LATERAL (
    SELECT key_id, seq, due_at FROM outspoken_jobs
    WHERE state = 'queued' AND lapses < 2 AND key_id = wanted.value AND due_at <= :now
    ORDER BY due_at, seq LIMIT :room FOR UPDATE SKIP LOCKED
) AS head
ORDER BY head.key_id, head.due_at, head.seq

-- served --
-- These keys, a JSON array in the order of their turns, go to the back. Their rows are held since `turns`.
UPDATE outspoken_queues AS queues SET served = turns.place + last.turn
FROM json_array_elements_text(CAST(:keys AS json)) WITH ORDINALITY AS turns (key_id, place),
     (SELECT max(served) AS turn FROM outspoken_queues AS queues) AS last
WHERE queues.key_id = turns.key_id

-- lease --
-- Claim the chosen jobs, given as a JSON array of seqs. They were held by the statements that chose them.
UPDATE outspoken_jobs SET state = 'leased', lease_token = :token, lease_until = :until, started_at = coalesce(started_at, :now)
WHERE state = 'queued'
  AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))
RETURNING seq, request, media, has_audio, crashes, lapses, created_at

-- renew --
-- The work is still going on: a JSON array of [seq, token] pairs. Those that come back are still held.
UPDATE outspoken_jobs AS jobs SET lease_until = :until
FROM (SELECT CAST(value ->> 0 AS bigint) AS seq, value ->> 1 AS token
      FROM json_array_elements(CAST(:leases AS json))) AS held
WHERE jobs.state = 'leased' AND jobs.seq = held.seq AND jobs.lease_token = held.token
RETURNING jobs.seq

-- release --
-- Unfinished work goes back as it was: a JSON array of [seq, token] pairs.
UPDATE outspoken_jobs AS jobs SET state = 'queued', lease_token = NULL, lease_until = NULL
FROM (SELECT CAST(value ->> 0 AS bigint) AS seq, value ->> 1 AS token
      FROM json_array_elements(CAST(:leases AS json))) AS held
WHERE jobs.state = 'leased' AND jobs.seq = held.seq AND jobs.lease_token = held.token

-- finish --
-- The end of a job, in the transaction that keeps its result and adds its delivery. A stale token changes nothing.
-- The media come again: that they had been fetched may have gone unwritten.
UPDATE outspoken_jobs
SET state = CASE WHEN CAST(:error_code AS text) IS NULL THEN 'done' ELSE 'failed' END, error_code = :error_code,
    crashes = crashes + :crashed, finished_at = :now, lease_token = NULL, lease_until = NULL,
    media = :media, bytes = :bytes, has_audio = greatest(has_audio, :has_audio), duration = :duration
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- snapshot --
-- The gauges: counts from one row a key, and the oldest from a partial index.
SELECT CAST(coalesce(sum(queued), 0) AS bigint), CAST(coalesce(sum(leased), 0) AS bigint),
       CAST(coalesce(sum(bytes), 0) AS bigint), (SELECT min(due_at) FROM outspoken_jobs WHERE state = 'queued')
FROM outspoken_queues

-- states --
-- Which of these ids, a JSON array, are jobs or uploads, and whether each still needs its audio.
WITH asked AS (SELECT ARRAY(SELECT json_array_elements_text(CAST(:ids AS json))) AS ids)
SELECT id, state IN ('queued', 'leased') OR audio_kept = 1 FROM outspoken_jobs, asked WHERE id = ANY(ids)
UNION ALL
SELECT id, true FROM outspoken_uploads, asked WHERE id = ANY(ids)

-- list_all --
-- The newest jobs first, before a position. Filters that are NULL let everything through; :undelivered asks the outbox,
-- by the unique id that both share. PostgreSQL refuses to look into JSON with a \u0000: such metadata match nothing.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at,
       jobs.duration,
       CASE WHEN CAST(:with_results AS boolean) THEN (SELECT result FROM outspoken_results AS results WHERE results.seq = jobs.seq) END
FROM outspoken_jobs AS jobs
WHERE (jobs.created_at, jobs.seq) < (:older, :older_seq) AND jobs.created_at >= :since
  AND (CAST(:dialect AS text) IS NULL OR jobs.dialect = :dialect)
  AND (CAST(:states AS json) IS NULL OR jobs.state IN (SELECT json_array_elements_text(CAST(:states AS json))))
  AND (NOT CAST(:undelivered AS boolean) OR EXISTS (SELECT 1 FROM outspoken_deliveries AS deliveries
       WHERE deliveries.id = jobs.id AND deliveries.state IN ('pending', 'leased', 'dead')))
  AND (CAST(:metadata AS json) IS NULL OR NOT EXISTS (
       SELECT 1 FROM json_each_text(CAST(:metadata AS json)) AS wanted WHERE NOT EXISTS (
       SELECT 1 FROM json_each_text(CASE WHEN strpos(CAST(jobs.request AS text), '\u0000') = 0
                                         THEN jobs.request -> 'options' -> 'custom_metadata' END) AS had
       WHERE had.key = wanted.key AND had.value = wanted.value)))
ORDER BY jobs.created_at DESC, jobs.seq DESC LIMIT :limit OFFSET :offset

-- list_own --
-- The same as list_all, of one key, through the index that begins with it.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at,
       jobs.duration,
       CASE WHEN CAST(:with_results AS boolean) THEN (SELECT result FROM outspoken_results AS results WHERE results.seq = jobs.seq) END
FROM outspoken_jobs AS jobs
WHERE jobs.key_id = :key_id AND (jobs.created_at, jobs.seq) < (:older, :older_seq) AND jobs.created_at >= :since
  AND (CAST(:dialect AS text) IS NULL OR jobs.dialect = :dialect)
  AND (CAST(:states AS json) IS NULL OR jobs.state IN (SELECT json_array_elements_text(CAST(:states AS json))))
  AND (NOT CAST(:undelivered AS boolean) OR EXISTS (SELECT 1 FROM outspoken_deliveries AS deliveries
       WHERE deliveries.id = jobs.id AND deliveries.state IN ('pending', 'leased', 'dead')))
  AND (CAST(:metadata AS json) IS NULL OR NOT EXISTS (
       SELECT 1 FROM json_each_text(CAST(:metadata AS json)) AS wanted WHERE NOT EXISTS (
       SELECT 1 FROM json_each_text(CASE WHEN strpos(CAST(jobs.request AS text), '\u0000') = 0
                                         THEN jobs.request -> 'options' -> 'custom_metadata' END) AS had
       WHERE had.key = wanted.key AND had.value = wanted.value)))
ORDER BY jobs.created_at DESC, jobs.seq DESC LIMIT :limit OFFSET :offset

-- forget_results --
-- The oldest results that were kept long enough, :slice at the most. Another engine may be at it too.
DELETE FROM outspoken_results
WHERE seq = ANY(ARRAY(
    SELECT seq FROM outspoken_results WHERE ended_at <= :before ORDER BY ended_at LIMIT :slice FOR UPDATE SKIP LOCKED))
RETURNING seq

-- forget_jobs --
-- The same of finished jobs, after their results, which refer to them.
DELETE FROM outspoken_jobs AS jobs
WHERE seq = ANY(ARRAY(
        SELECT seq FROM outspoken_jobs AS jobs WHERE finished_at <= :before ORDER BY finished_at LIMIT :slice FOR UPDATE SKIP LOCKED))
  AND NOT EXISTS (SELECT 1 FROM outspoken_results AS results WHERE results.seq = jobs.seq)
RETURNING id

-- forget_audio --
-- Finished jobs whose audio was kept long enough, :slice at the most. Another engine may be at it too.
UPDATE outspoken_jobs SET audio_kept = 0
WHERE seq = ANY(ARRAY(
    SELECT seq FROM outspoken_jobs WHERE audio_kept = 1 AND finished_at <= :before
    ORDER BY finished_at LIMIT :slice FOR UPDATE SKIP LOCKED))
RETURNING id

-- forget_uploads --
-- The oldest uploads that were kept long enough, :slice at the most. Jobs made of them have copies of their own.
DELETE FROM outspoken_uploads
WHERE id = ANY(ARRAY(
    SELECT id FROM outspoken_uploads WHERE created_at <= :before ORDER BY created_at LIMIT :slice FOR UPDATE SKIP LOCKED))
RETURNING id
