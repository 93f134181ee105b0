-- What the engine keeps of jobs, uploads and sessions. Each block begins with its name. A block of the same name in
-- postgres.sql takes its place on PostgreSQL.

-- accept --
-- One accepted request, due at once. Its audio is on the disk already, or behind its URL.
INSERT INTO outspoken_jobs (id, request, media, has_audio, created_at, due_at, key_id, dialect, bytes, audio_kept)
VALUES (:id, :request, :media, :has_audio, :now, :now, :key_id, :dialect, :bytes, :audio_kept)

-- name_upload --
-- A job names an upload, whose bytes are counted as the job's from now on.
UPDATE outspoken_uploads SET waits = 0 WHERE id = :id AND waits = 1

-- backlog --
-- What a bound goes by: jobs that wait and bytes of audio in all, and jobs that wait of one key with its own bound.
SELECT coalesce(sum(queued), 0), coalesce(sum(bytes), 0),
       coalesce((SELECT queued FROM outspoken_queues WHERE key_id = :key_id), 0),
       (SELECT max_queued FROM outspoken_api_keys WHERE id = :key_id)
FROM outspoken_queues

-- waiting --
-- Whether a lease would find anything, and whether a sweep would: asked without the write lock, because an idle engine
-- asks every second.
SELECT EXISTS (SELECT 1 FROM outspoken_jobs WHERE state = 'queued' AND due_at <= :now),
       EXISTS (SELECT 1 FROM outspoken_jobs WHERE state = 'leased' AND lease_until <= :now)

-- sweep --
-- A lease whose engine went quiet: the job is free again. It is counted, for the audio may be what ended the engine.
UPDATE outspoken_jobs SET state = 'queued', lapses = lapses + 1, lease_token = NULL, lease_until = NULL
WHERE state = 'leased' AND lease_until <= :now

-- suspects --
-- Whether any suspect waits.
SELECT 1 FROM outspoken_jobs WHERE state = 'queued' AND lapses >= 2 AND due_at <= :now LIMIT 1

-- suspect --
-- The next suspect, if none is being worked on: whoever ends an engine is alone with it, and nobody shares the blame.
-- The least suspicious first, so that those who only stood beside are done before the culprit has its next try.
SELECT seq FROM outspoken_jobs
WHERE state = 'queued' AND lapses >= 2 AND due_at <= :now
  AND NOT EXISTS (SELECT 1 FROM outspoken_jobs WHERE state = 'leased' AND lapses >= 2)
ORDER BY lapses, due_at, seq LIMIT 1

-- turns --
-- The keys whose turn it is, :room at the most, the one served longest ago first, each with the number of jobs that it
-- may start now (NULL: any). One seek a key with anything queued, however long its queue is.
SELECT queues.key_id, api_keys.max_running - queues.leased
FROM outspoken_queues AS queues LEFT JOIN outspoken_api_keys AS api_keys ON api_keys.id = queues.key_id
WHERE queues.queued > 0 AND queues.leased < coalesce(api_keys.max_running, 9223372036854775807)
  AND (SELECT min(due_at) FROM outspoken_jobs WHERE state = 'queued' AND lapses < 2 AND key_id = queues.key_id) <= :now
ORDER BY queues.served, queues.key_id LIMIT :room

-- candidates --
-- The first :room due jobs of each key in a JSON array. A window function would read whole queues; this seeks once a key.
SELECT jobs.key_id, jobs.seq
FROM json_each(:keys) AS wanted CROSS JOIN outspoken_jobs AS jobs
WHERE jobs.seq IN (
    SELECT seq FROM outspoken_jobs AS jobs
    WHERE state = 'queued' AND lapses < 2 AND key_id = wanted.value AND due_at <= :now
    ORDER BY due_at, seq LIMIT :room
)
ORDER BY jobs.key_id, jobs.due_at, jobs.seq

-- served --
-- These keys, a JSON array in the order of their turns, go to the back.
UPDATE outspoken_queues AS queues SET served = turns.turn
FROM (SELECT value AS key_id, key + 1 + (SELECT max(served) FROM outspoken_queues AS queues) AS turn FROM json_each(:keys)) AS turns
WHERE queues.key_id = turns.key_id

-- lease --
-- Claim the chosen jobs, given as a JSON array of seqs.
UPDATE outspoken_jobs SET state = 'leased', lease_token = :token, lease_until = :until, started_at = coalesce(started_at, :now)
WHERE state = 'queued' AND seq IN (SELECT value FROM json_each(:seqs))
RETURNING seq, request, media, has_audio, crashes, lapses, created_at

-- take_over --
-- Claim one job that is not finished, whoever works on it: that one's token changes nothing any more.
UPDATE outspoken_jobs SET state = 'leased', lease_token = :token, lease_until = :until, started_at = coalesce(started_at, :now)
WHERE id = :id AND state IN ('queued', 'leased')
RETURNING seq, request, media, has_audio, crashes, lapses, created_at

-- ids --
-- The ids that begin so, :limit at the most.
SELECT id FROM outspoken_jobs WHERE substr(id, 1, length(:beginning)) = :beginning ORDER BY id LIMIT :limit

-- failed --
-- Jobs that ended in failure since then.
SELECT count(*) FROM outspoken_jobs WHERE finished_at >= :since AND state = 'failed'

-- renew --
-- The work is still going on: a JSON array of [seq, token] pairs. Those that come back are still held.
UPDATE outspoken_jobs SET lease_until = :until
WHERE state = 'leased'
  AND (seq, lease_token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:leases))
RETURNING seq

-- release --
-- Unfinished work goes back as it was: a JSON array of [seq, token] pairs.
UPDATE outspoken_jobs SET state = 'queued', lease_token = NULL, lease_until = NULL
WHERE state = 'leased'
  AND (seq, lease_token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:leases))

-- retry --
-- Back into the queue, with its recogniser's death counted against it. A stale token changes nothing.
UPDATE outspoken_jobs SET state = 'queued', crashes = crashes + 1, due_at = :due_at, lease_token = NULL, lease_until = NULL
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- fetched --
-- The audio behind the request's URL is on the disk now, and need not be fetched again after a kill.
UPDATE outspoken_jobs SET media = :media, bytes = :bytes, has_audio = 1
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- finish --
-- The end of a job, in the transaction that keeps its result and adds its delivery. A stale token changes nothing.
-- The media come again: that they had been fetched may have gone unwritten.
UPDATE outspoken_jobs
SET state = CASE WHEN :error_code IS NULL THEN 'done' ELSE 'failed' END, error_code = :error_code,
    crashes = crashes + :crashed, finished_at = :now, lease_token = NULL, lease_until = NULL,
    media = :media, bytes = :bytes, has_audio = max(has_audio, :has_audio), duration = :duration
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- keep_result --
-- What came of a job, for whoever asks later.
INSERT INTO outspoken_results (seq, ended_at, result) VALUES (:seq, :now, :result)

-- snapshot --
-- The gauges: counts from one row a key, and the oldest from a partial index.
SELECT coalesce(sum(queued), 0), coalesce(sum(leased), 0), coalesce(sum(bytes), 0),
       (SELECT min(due_at) FROM outspoken_jobs WHERE state = 'queued')
FROM outspoken_queues

-- states --
-- Which of these ids, a JSON array, are jobs or uploads, and whether each still needs its audio.
SELECT id, state IN ('queued', 'leased') OR audio_kept FROM outspoken_jobs WHERE id IN (SELECT value FROM json_each(:ids))
UNION ALL
SELECT id, 1 FROM outspoken_uploads WHERE id IN (SELECT value FROM json_each(:ids))

-- find --
-- One job with all that is known of it, for whoever made it; :key_id NULL is whoever asks where no key is required.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at, jobs.duration,
       results.result
FROM outspoken_jobs AS jobs LEFT JOIN outspoken_results AS results ON results.seq = jobs.seq
WHERE jobs.id = :id AND jobs.key_id = coalesce(:key_id, jobs.key_id)

-- locate --
-- One job, to be deleted by whoever made it.
SELECT seq FROM outspoken_jobs WHERE id = :id AND key_id = coalesce(:key_id, key_id)

-- list_all --
-- The newest jobs first, before a position. Filters that are NULL let everything through; :undelivered 1 asks the
-- outbox, by the unique id that both share.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at, jobs.duration,
       CASE WHEN :with_results THEN (SELECT result FROM outspoken_results AS results WHERE results.seq = jobs.seq) END
FROM outspoken_jobs AS jobs
WHERE (jobs.created_at, jobs.seq) < (:older, :older_seq) AND jobs.created_at >= :since
  AND (:dialect IS NULL OR jobs.dialect = :dialect)
  AND (:states IS NULL OR jobs.state IN (SELECT value FROM json_each(:states)))
  AND (NOT :undelivered OR EXISTS (SELECT 1 FROM outspoken_deliveries AS deliveries
       WHERE deliveries.id = jobs.id AND deliveries.state IN ('pending', 'leased', 'dead')))
  AND (:metadata IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(:metadata) AS wanted WHERE NOT EXISTS (
       SELECT 1 FROM json_each(jobs.request, '$.options.custom_metadata') AS had
       WHERE had.key = wanted.key AND wanted.value =
             CASE had.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(had.value AS TEXT) END)))
ORDER BY jobs.created_at DESC, jobs.seq DESC LIMIT :limit OFFSET :offset

-- list_own --
-- The same as list_all, of one key, through the index that begins with it.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at, jobs.duration,
       CASE WHEN :with_results THEN (SELECT result FROM outspoken_results AS results WHERE results.seq = jobs.seq) END
FROM outspoken_jobs AS jobs
WHERE jobs.key_id = :key_id AND (jobs.created_at, jobs.seq) < (:older, :older_seq) AND jobs.created_at >= :since
  AND (:dialect IS NULL OR jobs.dialect = :dialect)
  AND (:states IS NULL OR jobs.state IN (SELECT value FROM json_each(:states)))
  AND (NOT :undelivered OR EXISTS (SELECT 1 FROM outspoken_deliveries AS deliveries
       WHERE deliveries.id = jobs.id AND deliveries.state IN ('pending', 'leased', 'dead')))
  AND (:metadata IS NULL OR NOT EXISTS (SELECT 1 FROM json_each(:metadata) AS wanted WHERE NOT EXISTS (
       SELECT 1 FROM json_each(jobs.request, '$.options.custom_metadata') AS had
       WHERE had.key = wanted.key AND wanted.value =
             CASE had.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(had.value AS TEXT) END)))
ORDER BY jobs.created_at DESC, jobs.seq DESC LIMIT :limit OFFSET :offset

-- forget_result --
-- What came of a job that is to be forgotten.
DELETE FROM outspoken_results WHERE seq = :seq

-- forget_job --
-- After its result, which refers to it. Work under way finds its lease gone, and adds nothing.
DELETE FROM outspoken_jobs WHERE seq = :seq

-- add_upload --
-- Audio whose file lies in the folder already.
INSERT INTO outspoken_uploads (id, key_id, filename, extension, size, sha256, duration, channels, created_at)
VALUES (:id, :key_id, :filename, :extension, :size, :sha256, :duration, :channels, :created_at)

-- upload --
-- One upload, for whoever sent it; :key_id NULL is whoever asks where no key is required.
SELECT id, key_id, filename, extension, size, sha256, duration, channels, created_at
FROM outspoken_uploads WHERE id = :id AND key_id = coalesce(:key_id, key_id)

-- add_session --
-- A live session that has ended, as history: it was heard while it lasted. Its audio is kept, or no file was made of it.
INSERT INTO outspoken_jobs (id, request, media, has_audio, created_at, due_at, state, started_at, finished_at, error_code, key_id,
                  dialect, bytes, duration, audio_kept)
VALUES (:id, :request, :media, 1, :created_at, :created_at, :state, :started_at, :now, :error_code, :key_id,
        :dialect, :bytes, :duration, :audio_kept)
RETURNING seq

-- forget_results --
-- The oldest results that were kept long enough, :slice at the most.
DELETE FROM outspoken_results
WHERE seq IN (SELECT seq FROM outspoken_results WHERE ended_at <= :before ORDER BY ended_at LIMIT :slice)
RETURNING seq

-- forget_jobs --
-- The same of finished jobs, after their results, which refer to them.
DELETE FROM outspoken_jobs AS jobs
WHERE seq IN (SELECT seq FROM outspoken_jobs AS jobs WHERE finished_at <= :before ORDER BY finished_at LIMIT :slice)
  AND NOT EXISTS (SELECT 1 FROM outspoken_results AS results WHERE results.seq = jobs.seq)
RETURNING id

-- forget_audio --
-- Finished jobs whose audio was kept long enough, :slice at the most.
UPDATE outspoken_jobs SET audio_kept = 0
WHERE seq IN (SELECT seq FROM outspoken_jobs WHERE audio_kept = 1 AND finished_at <= :before ORDER BY finished_at LIMIT :slice)
RETURNING id

-- forget_uploads --
-- The oldest uploads that were kept long enough, :slice at the most. Jobs made of them have links of their own.
DELETE FROM outspoken_uploads
WHERE id IN (SELECT id FROM outspoken_uploads WHERE created_at <= :before ORDER BY created_at LIMIT :slice)
RETURNING id
