-- What operators look at and change. Each block begins with its name. A block of the same name in
-- postgres.sql takes its place on PostgreSQL.

-- version --
-- What database this is.
SELECT 'SQLite ' || sqlite_version()

-- status --
-- How things stand, in one row. Every number comes from a partial index.
SELECT
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0)
        + (SELECT count(*) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1)
        + (SELECT count(*) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2 AND due_at <= :now) AS ready,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2 AND due_at > :now) AS scheduled,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2 AND due_at IS NULL) AS in_line,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead') AS dead,
    (SELECT min(due_at) FROM (SELECT min(due_at) AS due_at FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
                              UNION ALL SELECT min(due_at) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1
                              UNION ALL SELECT min(due_at) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2) AS lanes)
        AS oldest_due_at,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead' AND finished_at >= :midnight) AS dead_today,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead' AND finished_at >= :since) AS dead_of_late,
    (SELECT count(*) FROM outspoken_relays WHERE seen_at >= :seen_since) AS relays,
    (SELECT max(seen_at) FROM outspoken_relays) AS relay_seen_at,
    (SELECT max(at) FROM outspoken_audit WHERE act = 'relay.stop') AS relay_stopped_at

-- delivered_since --
-- No index knows when a delivery ended, so this reads all that is kept: for whoever can wait.
SELECT count(*) FROM outspoken_deliveries WHERE state = 'delivered' AND finished_at >= :since

-- all_origins --
-- Every origin of which something is known, or for which something waits, as a JSON array: those with most that is due first.
SELECT {as_array} FROM (
    SELECT known.origin FROM ({known_origins}) AS known
    LEFT JOIN (SELECT origin, sum(ready) AS ready FROM ({relay.queue.queues}) AS lanes GROUP BY origin) AS due ON due.origin = known.origin
    ORDER BY coalesce(due.ready, 0) DESC, known.origin
) AS ordered

-- all_endpoints --
-- Every path of an origin of which there is something to tell.
SELECT origin, path FROM outspoken_destinations WHERE path <> ''
UNION SELECT origin, path FROM outspoken_gone_urls
UNION SELECT origin, path FROM ({given_up}) AS given_up
UNION SELECT origin, path FROM ({retried}) AS retried

-- count_origins --
-- How many of them there are.
SELECT count(*) FROM ({known_origins}) AS known

-- known_origins --
-- The same as rows.
SELECT origin FROM outspoken_destinations
UNION SELECT origin FROM ({relay.queue.queues}) AS lanes
UNION SELECT origin FROM outspoken_deliveries WHERE state = 'leased'
UNION SELECT origin FROM ({given_up}) AS given_up
UNION SELECT origin FROM outspoken_gone_urls

-- origins_in_question --
-- Which origins may need attention, or are not called at will, as a JSON array; and how much is late by nobody's doing but a
-- relay's, since when. What this asks of those that are well stays in the database: there may be very many of them.
WITH lanes AS MATERIALIZED ({relay.queue.queues}),
     in_question AS ({in_question})
SELECT (SELECT {as_array} FROM in_question) AS origins, CAST(coalesce(sum(ready), 0) AS bigint) AS late, min(oldest_due_at) AS late_since
FROM lanes WHERE {may_go} AND origin NOT IN (SELECT origin FROM outspoken_deliveries WHERE state = 'leased')
  AND origin NOT IN (SELECT origin FROM outspoken_destinations WHERE path = '' AND state <> 'active')

-- in_question --
-- By what relay.admin.condition judges: what stands in their rows, what fails again and again, what was given up, and what
-- waits too long although attempts are under way to its origin, or is held for an endpoint of which there is something to tell.
SELECT origin FROM outspoken_destinations WHERE state <> 'active' OR open = 1 OR rate IS NOT NULL OR failures >= :often
UNION SELECT origin FROM ({retried}) AS retried WHERE retried >= :often
UNION SELECT origin FROM ({given_up}) AS given_up
UNION SELECT origin FROM lanes
      WHERE {may_go} AND oldest_due_at <= :late_before AND origin IN (SELECT origin FROM outspoken_deliveries WHERE state = 'leased')
UNION SELECT origin FROM (
          SELECT origin, path FROM outspoken_destinations WHERE path <> ''
          UNION ALL SELECT origin, path FROM outspoken_gone_urls
          UNION ALL SELECT origin, path FROM ({retried}) AS retried
      ) AS part
      WHERE EXISTS (SELECT 1 FROM outspoken_deliveries AS held WHERE held.state = 'pending' AND held.lane = 1
                    AND held.origin = part.origin AND held.path = part.path AND held.due_at <= :late_before)

-- may_go --
-- Of `lanes`: something is due, and not held.
ready > 0 AND lane <> 1

-- as_array --
-- Some origins as a JSON array.
json_group_array(origin)

-- wanted --
-- The origins of a JSON array.
SELECT value FROM json_each(:origins)

-- destinations --
-- Of some origins what is known, and of such endpoints of theirs as are in trouble, know a limit, or were spoken of.
SELECT origin, path, state, held, silent, failures, open, starts, rate, every, slowed_at, allowed_at, largest_accepted,
       smallest_refused
FROM outspoken_destinations WHERE origin IN ({wanted})

-- gone_urls --
-- How many URLs of each endpoint of some origins answered 410.
SELECT origin, path, count(*) AS gone FROM outspoken_gone_urls WHERE origin IN ({wanted}) GROUP BY origin, path

-- under_way --
-- How many attempts are under way to each of some origins.
SELECT origin, count(*) AS in_flight FROM outspoken_deliveries WHERE state = 'leased' AND origin IN ({wanted}) GROUP BY origin

-- waiting_lines --
-- What waits for each of some origins, lane by lane.
SELECT * FROM ({relay.queue.queues}) AS lanes WHERE origin IN ({wanted})

-- attempts_since --
-- Every attempt since a moment, for figures by destination.
SELECT deliveries.origin AS destination, attempts.outcome, attempts.status, attempts.duration, attempts.lag
FROM outspoken_attempts AS attempts
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = attempts.seq
WHERE attempts.started_at >= :since

-- last_attempts --
-- What the attempts at the last :effort deliveries came to, of those that ended since a moment. By the key: an index on
-- their time would be paid for by every attempt.
SELECT deliveries.origin, attempts.outcome, attempts.duration, attempts.started_at + attempts.duration AS ended_at
FROM outspoken_attempts AS attempts JOIN outspoken_deliveries AS deliveries ON deliveries.seq = attempts.seq
WHERE attempts.seq > (SELECT coalesce(max(seq), 0) - :effort FROM outspoken_deliveries)
  AND attempts.started_at + attempts.duration >= :since
ORDER BY ended_at

-- known_since --
-- When the first of the last :effort deliveries was added, of those that are kept; NULL where there are no more.
SELECT (SELECT created_at FROM outspoken_deliveries
        WHERE seq <= (SELECT max(seq) - :effort FROM outspoken_deliveries) ORDER BY seq DESC LIMIT 1) AS at

-- list --
-- The newest first, between a floor and a cursor. Filters that are NULL let everything through. Only one arm of
-- `looked` is ever walked: the one of the index that knows the tag, or else the state.
WITH looked (seq) AS (
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_ready
    WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 0 AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_held
    WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 1 AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_scheduled
    WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 2 AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_leased
    WHERE :tag IS NULL AND :state = 'leased' AND state = 'leased' AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_dead
    WHERE :tag IS NULL AND :state = 'dead' AND state = 'dead' AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries
    WHERE :tag IS NULL AND (:state IS NULL OR :state IN ('delivered', 'cancelled')) AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_tags WHERE tag = :tag AND seq >= :floor AND seq < :older
), chosen (seq) AS (
    SELECT deliveries.seq FROM looked CROSS JOIN outspoken_deliveries AS deliveries ON deliveries.seq = looked.seq
    WHERE (:state IS NULL OR deliveries.state = :state)
      AND (:destination IS NULL
           OR deliveries.origin = :destination)
      AND (:owner IS NULL OR deliveries.owner = :owner)
      AND (:id_prefix IS NULL OR substr(deliveries.id, 1, length(:id_prefix)) = :id_prefix)
      AND (:since IS NULL OR deliveries.created_at >= :since)
      AND (:until IS NULL OR deliveries.created_at < :until)
      AND (:outcome IS NULL OR :outcome = (
            SELECT outcome FROM outspoken_attempts AS attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq DESC LIMIT :limit
)
SELECT deliveries.seq, deliveries.id, deliveries.state, deliveries.origin AS destination, deliveries.kind,
       deliveries.created_at, deliveries.due_at, deliveries.finished_at, deliveries.reason, deliveries.body_bytes,
       deliveries.attempts, last.number AS last_number, last.outcome AS last_outcome, last.status AS last_status,
       deliveries.state = 'pending' AND deliveries.lane = 1 AS held
FROM chosen
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = chosen.seq
LEFT JOIN outspoken_attempts AS last ON last.seq = deliveries.seq
     AND last.number = (SELECT max(number) FROM outspoken_attempts AS attempts WHERE attempts.seq = deliveries.seq)
ORDER BY deliveries.seq DESC

-- reach --
-- How far back a page may look: the last of at most :effort deliveries before the cursor, by the index that knows the
-- tag or the state (a partial index needs the literal), or by the key where none does. No row: it may look to the end.
SELECT seq FROM (
    SELECT * FROM (SELECT seq FROM outspoken_deliveries INDEXED BY outspoken_deliveries_ready
                   WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 0 AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM outspoken_deliveries INDEXED BY outspoken_deliveries_held
                   WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 1 AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM outspoken_deliveries INDEXED BY outspoken_deliveries_scheduled
                   WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 2 AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM outspoken_deliveries INDEXED BY outspoken_deliveries_leased
                   WHERE :tag IS NULL AND :state = 'leased' AND state = 'leased' AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM outspoken_deliveries INDEXED BY outspoken_deliveries_dead
                   WHERE :tag IS NULL AND :state = 'dead' AND state = 'dead' AND seq >= :floor AND seq < :older)
    UNION ALL
    SELECT * FROM (SELECT seq FROM outspoken_deliveries
                   WHERE :tag IS NULL AND (:state IS NULL OR :state IN ('delivered', 'cancelled')) AND seq >= :floor AND seq < :older
                   ORDER BY seq DESC LIMIT :effort)
    UNION ALL
    SELECT * FROM (SELECT seq FROM outspoken_tags WHERE tag = :tag AND seq >= :floor AND seq < :older
                   ORDER BY seq DESC LIMIT :effort)
) ORDER BY seq DESC LIMIT 1 OFFSET :effort - 1

-- show --
-- One delivery with all that is known of it, its body apart.
SELECT deliveries.seq, deliveries.id, deliveries.state, deliveries.origin AS destination, deliveries.kind,
       deliveries.created_at, deliveries.due_at, deliveries.finished_at, deliveries.reason, deliveries.body_bytes,
       deliveries.attempts, deliveries.lapses, deliveries.url, deliveries.method, deliveries.content_type,
       deliveries.headers, deliveries.traceparent, deliveries.schedule, deliveries.pointer, deliveries.position,
       deliveries.idempotency_key, deliveries.tracked, deliveries.owner, deliveries.priority,
       streams.key AS stream, streams.transport, streams.reason AS stream_reason, deliveries.lane, deliveries.path,
       EXISTS (SELECT 1 FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) AS body_kept
FROM outspoken_deliveries AS deliveries
LEFT JOIN outspoken_streams AS streams ON streams.id = deliveries.stream_id
WHERE deliveries.id = :id

-- places --
-- How an origin and an endpoint of it stand, as far as something is known of them.
SELECT path, state, silent, failures, open, starts, rate, every, slowed_at, allowed_at
FROM outspoken_destinations WHERE origin = :origin AND path IN ('', :path) ORDER BY path

-- begin_so --
-- Two of the deliveries whose id begins so.
SELECT id FROM outspoken_deliveries WHERE :begin <> '' AND id >= :begin AND id < :end LIMIT 2

-- history --
-- All attempts of one delivery.
SELECT number, started_at, lag, duration, outcome, status, peer, detail, timing, request_headers, answer_headers, excerpt
FROM outspoken_attempts WHERE seq = :seq ORDER BY number

-- recent_attempts --
-- The newest attempts, oldest of them first. What is joined is joined after the choice, which reads all attempts.
SELECT deliveries.id, deliveries.origin AS destination, deliveries.state, deliveries.reason,
       attempts.number, attempts.started_at, attempts.lag, attempts.duration, attempts.outcome, attempts.status,
       attempts.detail
FROM (
    SELECT seq, number FROM outspoken_attempts AS attempts
    WHERE (CAST(:outcome AS text) IS NULL OR outcome = :outcome)
      AND (CAST(:destination AS text) IS NULL OR :destination = (
            SELECT origin FROM outspoken_deliveries AS deliveries WHERE deliveries.seq = attempts.seq))
    ORDER BY started_at DESC LIMIT :limit
) AS newest
JOIN outspoken_attempts AS attempts ON attempts.seq = newest.seq AND attempts.number = newest.number
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = newest.seq
ORDER BY attempts.started_at

-- tail_mark --
-- What can have an attempt next: what waits (the soonest first) or is being attempted, and how many it has had. Then
-- what tells of a gap: whether as many wait as were asked for, and the last replay.
SELECT json_group_array(json_array(seq, tried)) AS mark,
       max((SELECT count(*) FROM (SELECT 1 FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0 LIMIT :limit)),
           (SELECT count(*) FROM (SELECT 1 FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1 LIMIT :limit)),
           (SELECT count(*) FROM (SELECT 1 FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2 LIMIT :limit))) >= :limit AS crowded,
       (SELECT coalesce(max(id), 0) FROM outspoken_audit WHERE act = 'delivery.replay') AS replay,
       (SELECT coalesce(max(seq), 0) FROM outspoken_deliveries) AS high_water
FROM (
    SELECT seq, attempts + lapses AS tried FROM outspoken_deliveries WHERE state = 'leased'
    UNION ALL
    SELECT * FROM (SELECT seq, attempts + lapses AS tried FROM outspoken_deliveries
                   WHERE state = 'pending' AND lane = 0 LIMIT :limit)
    UNION ALL
    SELECT * FROM (SELECT seq, attempts + lapses AS tried FROM outspoken_deliveries
                   WHERE state = 'pending' AND lane = 1 ORDER BY due_at LIMIT :limit)
    UNION ALL
    SELECT * FROM (SELECT seq, attempts + lapses AS tried FROM outspoken_deliveries
                   WHERE state = 'pending' AND lane = 2 ORDER BY due_at LIMIT :limit)
)

-- tail --
-- Attempts since a mark: later ones of what was waiting then, and all of what was added after. The seeks go by the
-- primary key; an index on the time would be paid for by every attempt.
WITH marked (seq, number) AS (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:mark)
), fresh (seq, number) AS (
    SELECT attempts.seq, attempts.number FROM marked CROSS JOIN outspoken_attempts AS attempts
    WHERE attempts.seq = marked.seq AND attempts.number > marked.number
    UNION ALL
    SELECT seq, number FROM outspoken_attempts AS attempts WHERE seq > :high_water
)
SELECT deliveries.id, deliveries.origin AS destination, deliveries.state, deliveries.reason,
       attempts.number, attempts.started_at, attempts.lag, attempts.duration, attempts.outcome, attempts.status,
       attempts.detail
FROM fresh
JOIN outspoken_attempts AS attempts ON attempts.seq = fresh.seq AND attempts.number = fresh.number
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = attempts.seq
WHERE (:outcome IS NULL OR attempts.outcome = :outcome)
  AND (:destination IS NULL OR deliveries.origin = :destination)
ORDER BY attempts.started_at

-- evidence --
-- What the last attempts at one endpoint came to, or at a whole origin (path ''): of what waits (retries are due last) and
-- of what was given up of late. Bounded, however much waits: each arm looks at :effort index entries.
WITH tried (seq, number) AS (
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_held
        WHERE state = 'pending' AND lane = 1 AND origin = :origin AND :path = '' LIMIT :effort) AS held
    WHERE attempts + lapses > 0
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_held
        WHERE state = 'pending' AND lane = 1 AND origin = :origin AND :path <> '' AND path = :path LIMIT :effort) AS held_there
    WHERE attempts + lapses > 0
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, origin, path FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_ready
        WHERE state = 'pending' AND lane = 0 LIMIT :effort) AS ready
    WHERE origin = :origin AND attempts + lapses > 0 AND (:path = '' OR path = :path)
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, origin, path FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_scheduled
        WHERE state = 'pending' AND lane = 2 AND due_at IS NOT NULL ORDER BY due_at DESC LIMIT :effort) AS waiting
    WHERE origin = :origin AND attempts + lapses > 0 AND (:path = '' OR path = :path)
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, origin, path FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_dead
        WHERE state = 'dead' ORDER BY finished_at DESC LIMIT :effort) AS given_up
    WHERE origin = :origin AND attempts + lapses > 0 AND (:path = '' OR path = :path)
)
SELECT attempts.started_at, attempts.outcome, attempts.status, attempts.detail, attempts.answer_headers,
       deliveries.id, deliveries.body_bytes
FROM tried
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = tried.seq
JOIN outspoken_attempts AS attempts ON attempts.seq = tried.seq
     AND attempts.number = (SELECT max(number) FROM outspoken_attempts AS attempts WHERE attempts.seq = tried.seq)
ORDER BY attempts.started_at DESC LIMIT :limit

-- retried --
-- How many of what waits was tried before, by endpoint. Retries are due last: the last :effort of what is scheduled, and
-- as many of what is held, will do.
SELECT origin, path, count(*) AS retried
FROM (SELECT * FROM (SELECT origin, path, attempts FROM outspoken_deliveries INDEXED BY outspoken_deliveries_scheduled
                     WHERE state = 'pending' AND lane = 2 AND due_at IS NOT NULL ORDER BY due_at DESC LIMIT :effort) AS scheduled
      UNION ALL
      SELECT * FROM (SELECT origin, path, attempts FROM outspoken_deliveries INDEXED BY outspoken_deliveries_waiting
                     WHERE state = 'pending' AND lane = 1 ORDER BY due_at DESC LIMIT :effort) AS held) AS waiting
WHERE attempts > 0 GROUP BY origin, path

-- held_back --
-- What waits for each endpoint of some origins, because it, or its origin, is held.
SELECT origin, path, count(*) AS waiting, min(due_at) AS oldest_due_at
FROM outspoken_deliveries INDEXED BY outspoken_deliveries_held
WHERE state = 'pending' AND lane = 1 AND origin IN ({wanted}) GROUP BY origin, path

-- given_up --
-- What was given up since then, by endpoint: of the last :effort.
SELECT origin, path, count(*) AS dead
FROM (SELECT origin, path FROM outspoken_deliveries INDEXED BY outspoken_deliveries_dead
      WHERE state = 'dead' AND finished_at >= :since ORDER BY finished_at DESC LIMIT :effort) AS latest
GROUP BY origin, path

-- destination --
-- How a destination stands that is about to be changed; no row for an origin of which nothing is known. SQLite has one
-- writer at a time: there is nothing to lock.
SELECT coalesce((SELECT state FROM outspoken_destinations WHERE origin = :origin AND path = :path), 'active') AS state
WHERE EXISTS (SELECT 1 FROM outspoken_destinations WHERE origin = :origin)
   OR EXISTS (SELECT 1 FROM outspoken_deliveries WHERE origin = :origin)

-- matching --
-- What a bulk act would touch, oldest first, with all that decides whether it may. Only one arm of `looked` is walked.
WITH looked (seq) AS (
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_ready WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 0
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_held WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 1
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_scheduled WHERE :tag IS NULL AND :state = 'pending' AND state = 'pending' AND lane = 2
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_dead WHERE :tag IS NULL AND :state = 'dead' AND state = 'dead'
    UNION ALL
    SELECT seq FROM outspoken_deliveries AS deliveries
    WHERE :tag IS NULL AND :state NOT IN ('pending', 'dead') AND state = :state AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_tags WHERE tag = :tag AND seq >= :floor AND seq < :older
), chosen (seq) AS (
    SELECT deliveries.seq FROM looked CROSS JOIN outspoken_deliveries AS deliveries ON deliveries.seq = looked.seq
    WHERE deliveries.state = :state AND (:destination IS NULL OR deliveries.origin = :destination)
      AND (:owner IS NULL OR deliveries.owner = :owner)
      AND (:id_prefix IS NULL OR substr(deliveries.id, 1, length(:id_prefix)) = :id_prefix)
      AND (:since IS NULL OR deliveries.created_at >= :since)
      AND (:until IS NULL OR deliveries.created_at < :until)
      AND (:outcome IS NULL OR :outcome = (
            SELECT outcome FROM outspoken_attempts AS attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq LIMIT :limit
)
{selected}

-- selected --
-- What a bulk act has to know of each delivery that was `chosen`, oldest first.
SELECT deliveries.seq, deliveries.id, deliveries.state, deliveries.body_bytes, deliveries.origin AS destination,
       coalesce(nullif(whole.state, 'active'), part.state, 'active') AS destination_state, streams.state AS stream_state,
       streams.transport AS stream_transport,
       EXISTS (SELECT 1 FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) AS body
FROM chosen
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = chosen.seq
LEFT JOIN outspoken_destinations AS whole ON whole.origin = deliveries.origin AND whole.path = ''
LEFT JOIN outspoken_destinations AS part ON part.origin = deliveries.origin AND part.path = deliveries.path
LEFT JOIN outspoken_streams AS streams ON streams.id = deliveries.stream_id
ORDER BY deliveries.seq

-- named --
-- The same of deliveries named in a JSON array of ids.
WITH chosen (seq) AS (
    SELECT deliveries.seq FROM json_each(:ids) AS wanted JOIN outspoken_deliveries AS deliveries ON deliveries.id = wanted.value
)
{selected}

-- lock_streams --
-- The streams of some deliveries, a JSON array of seqs. SQLite has one writer at a time: there is nothing to lock.
SELECT stream_id FROM outspoken_deliveries WHERE seq IN (SELECT value FROM json_each(:seqs)) AND stream_id IS NOT NULL

-- replay --
-- Once more from the start of the schedule. Attempts become lapses, so that the next attempt's number is a fresh one.
-- Of a stream it waits its turn (due_at NULL); without its body, in a killed stream or of a WebSocket, it stays what it is.
UPDATE outspoken_deliveries AS deliveries
SET state = 'pending', lane = 2, due_at = CASE WHEN stream_id IS NULL THEN :due_at END, lapses = lapses + attempts, attempts = 0,
    scheduled_from = :due_at, pointer = 0, finished_at = NULL, reason = NULL
WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled')
  AND EXISTS (SELECT 1 FROM outspoken_bodies AS bodies WHERE bodies.seq = :seq)
  AND NOT EXISTS (SELECT 1 FROM outspoken_streams AS streams WHERE streams.id = deliveries.stream_id
                  AND (streams.state = 'killed' OR streams.transport = 'ws'))
RETURNING stream_id

-- release_stream --
-- The first of a stream may go, unless one of it is already on its way. A second call changes nothing. Messages of a
-- WebSocket are never due: whoever holds the socket reads them.
UPDATE outspoken_deliveries SET due_at = :due_at
WHERE seq = (SELECT seq FROM outspoken_deliveries WHERE stream_id = :stream_id AND state IN ('pending', 'leased')
             ORDER BY position LIMIT 1)
  AND due_at IS NULL AND NOT EXISTS (SELECT 1 FROM outspoken_streams AS streams WHERE streams.id = :stream_id AND transport = 'ws')
  AND NOT EXISTS (SELECT 1 FROM outspoken_deliveries AS other INDEXED BY outspoken_deliveries_stream
                  WHERE other.stream_id = :stream_id AND other.state IN ('pending', 'leased')
                    AND other.due_at IS NOT NULL)

-- cancel --
-- Nobody is to get this result; one that is on its way just now is not called back.
UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = :now WHERE seq = :seq AND state = 'pending'
RETURNING stream_id

-- keys --
-- Every signing key, those that were retired included.
SELECT id, origin AS destination, key, created_at, retires_at FROM outspoken_signing_keys ORDER BY id

-- lock_keys --
-- One change of keys at a time. SQLite has one writer at a time anyway.
SELECT 1

-- retire_key --
-- From a moment on this key signs no more.
UPDATE outspoken_signing_keys SET retires_at = :at WHERE id = :id AND (retires_at IS NULL OR retires_at > :at)

-- set_state --
-- What an operator says of a destination. Whatever waits there is looked at once.
INSERT INTO outspoken_destinations AS it (origin, path, state, held, turn_at)
VALUES (:origin, :path, :state, CASE WHEN :state = 'active' THEN 0 ELSE 1 END, :now)
ON CONFLICT (origin, path) DO UPDATE
SET state = excluded.state, turn_at = excluded.turn_at,
    held = CASE WHEN excluded.state <> 'active' OR it.silent = 1 OR it.open = 1 OR it.rate IS NOT NULL THEN 1 ELSE 0 END

-- wake_endpoints --
-- What waits for the endpoints of an origin is looked at once.
UPDATE outspoken_destinations SET turn_at = :now WHERE origin = :origin AND path <> '' AND held = 1

-- make_well --
-- An endpoint, or an origin with all of its endpoints, is called at will, whatever stood in the way.
UPDATE outspoken_destinations
SET state = 'active', held = 0, silent = 0, failures = 0, open = 0, starts = '[]', rate = NULL, every = NULL, allowed_at = 0,
    turn_at = :now
WHERE origin = :origin AND (path = :path OR :path = '') AND (held = 1 OR failures > 0)

-- forget_gone_urls --
-- URLs that answered 410 are called again.
DELETE FROM outspoken_gone_urls WHERE origin = :origin AND (path = :path OR :path = '')
