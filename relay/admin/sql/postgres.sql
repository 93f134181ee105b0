-- Where PostgreSQL's words are not SQLite's: those of sqlite.sql, block by block. What is not here is the same on both.

-- version --
-- What database this is.
SELECT 'PostgreSQL ' || current_setting('server_version')

-- as_array --
-- Some origins as a JSON array.
coalesce(json_agg(origin), '[]')

-- wanted --
-- The origins of a JSON array.
SELECT value FROM json_array_elements_text(CAST(:origins AS json)) AS wanted (value)

-- list --
-- The newest first, between a floor and a cursor. Filters that are NULL let everything through. What is looked at is
-- looked for apart: by the index that knows the state where that has less to offer than the key. In the order of the
-- key, with a limit, a few dead letters of long ago would be sought through all that was delivered since.
WITH looked AS MATERIALIZED (
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 0
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 1
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 2
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND (CAST(:state AS text) IS NULL OR CAST(:state AS text) <> 'pending' AND state = :state)
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_tags AS tags WHERE tag = :tag AND seq >= :floor AND seq < :older
), chosen AS (
    SELECT deliveries.seq FROM looked JOIN outspoken_deliveries AS deliveries ON deliveries.seq = looked.seq
    WHERE (CAST(:state AS text) IS NULL OR deliveries.state = :state)
      AND (CAST(:destination AS text) IS NULL OR deliveries.origin = :destination)
      AND (CAST(:owner AS text) IS NULL OR deliveries.owner = :owner)
      AND (CAST(:id_prefix AS text) IS NULL OR starts_with(deliveries.id, :id_prefix))
      AND (CAST(:since AS double precision) IS NULL OR deliveries.created_at >= :since)
      AND (CAST(:until AS double precision) IS NULL OR deliveries.created_at < :until)
      AND (CAST(:outcome AS text) IS NULL OR :outcome = (
            SELECT outcome FROM outspoken_attempts AS attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq DESC LIMIT :limit
)
SELECT deliveries.seq, deliveries.id, deliveries.state, deliveries.origin AS destination, deliveries.kind,
       deliveries.created_at, deliveries.due_at, deliveries.finished_at, deliveries.reason, deliveries.body_bytes,
       deliveries.attempts, last.number AS last_number, last.outcome AS last_outcome, last.status AS last_status,
       deliveries.state = 'pending' AND deliveries.lane = 1 AS held
FROM chosen
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = chosen.seq
LEFT JOIN LATERAL (
    SELECT number, outcome, status FROM outspoken_attempts AS attempts WHERE attempts.seq = chosen.seq ORDER BY number DESC LIMIT 1
) AS last ON true
ORDER BY deliveries.seq DESC

-- reach --
-- How far back a page may look: the last of at most :effort deliveries before the cursor, by the index that knows the
-- state, or by the key where none does. No row: it may look to the end.
WITH known AS MATERIALIZED (
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 0
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 1
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 2
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) IN ('leased', 'dead') AND state = :state
      AND seq >= :floor AND seq < :older
), tagged AS (
    SELECT seq FROM outspoken_tags AS tags WHERE tag = :tag AND seq >= :floor AND seq < :older ORDER BY seq DESC LIMIT :effort
), others AS (
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND coalesce(CAST(:state AS text), 'delivered') IN ('delivered', 'cancelled') AND seq >= :floor AND seq < :older
    ORDER BY seq DESC LIMIT :effort
)
SELECT seq FROM (SELECT seq FROM known UNION ALL SELECT seq FROM tagged UNION ALL SELECT seq FROM others) AS looked
ORDER BY seq DESC LIMIT 1 OFFSET CAST(:effort AS bigint) - 1

-- tail_mark --
-- What can have an attempt next: what waits (the soonest first) or is being attempted, and how many it has had. Then
-- what tells of a gap: whether as many wait as were asked for, and the last replay. Numbers are given out before the
-- commit: one below the last may be under way still. So the last thousand count as new until they are older, and stand
-- in the mark, whatever their state.
WITH last AS (
    SELECT greatest(coalesce(max(seq), 0) - 1000, 0) AS seq FROM outspoken_deliveries
)
SELECT coalesce(json_agg(json_build_array(seq, tried)), '[]') AS mark,
       greatest((SELECT count(*) FROM (SELECT 1 FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0 LIMIT :limit) AS ready),
                (SELECT count(*) FROM (SELECT 1 FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1 LIMIT :limit) AS held),
                (SELECT count(*) FROM (SELECT 1 FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2 LIMIT :limit) AS waiting))
           >= CAST(:limit AS bigint) AS crowded,
       (SELECT coalesce(max(id), 0) FROM outspoken_audit WHERE act = 'delivery.replay') AS replay,
       (SELECT seq FROM last) AS high_water
FROM (
    SELECT seq, attempts + lapses AS tried FROM outspoken_deliveries WHERE state = 'leased'
    UNION
    SELECT * FROM (SELECT seq, attempts + lapses FROM outspoken_deliveries
                   WHERE state = 'pending' AND lane = 0 LIMIT :limit) AS ready
    UNION
    SELECT * FROM (SELECT seq, attempts + lapses FROM outspoken_deliveries
                   WHERE state = 'pending' AND lane = 1 ORDER BY due_at LIMIT :limit) AS held
    UNION
    SELECT * FROM (SELECT seq, attempts + lapses FROM outspoken_deliveries
                   WHERE state = 'pending' AND lane = 2 ORDER BY due_at LIMIT :limit) AS waiting
    UNION
    SELECT seq, attempts + lapses FROM outspoken_deliveries WHERE seq > (SELECT seq FROM last)
) AS watched

-- tail --
-- Attempts since a mark: later ones of what was watched then, and all of what was added after. The seeks go by the
-- primary key; an index on the time would be paid for by every attempt.
WITH marked AS MATERIALIZED (
    SELECT CAST(value ->> 0 AS bigint) AS seq, CAST(value ->> 1 AS integer) AS number
    FROM json_array_elements(CAST(:mark AS json))
), fresh AS (
    SELECT attempts.seq, attempts.number
    FROM marked JOIN outspoken_attempts AS attempts ON attempts.seq = marked.seq AND attempts.number > marked.number
    UNION ALL
    SELECT seq, number FROM outspoken_attempts AS attempts
    WHERE seq > :high_water AND NOT EXISTS (SELECT 1 FROM marked WHERE marked.seq = attempts.seq)
)
SELECT deliveries.id, deliveries.origin AS destination, deliveries.state, deliveries.reason,
       attempts.number, attempts.started_at, attempts.lag, attempts.duration, attempts.outcome, attempts.status,
       attempts.detail
FROM fresh
JOIN outspoken_attempts AS attempts ON attempts.seq = fresh.seq AND attempts.number = fresh.number
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = attempts.seq
WHERE (CAST(:outcome AS text) IS NULL OR attempts.outcome = :outcome)
  AND (CAST(:destination AS text) IS NULL OR deliveries.origin = :destination)
ORDER BY attempts.started_at

-- evidence --
-- What the last attempts at one endpoint came to, or at a whole origin (path ''): of what waits (retries are due last) and
-- of what was given up of late. Bounded, however much waits: each arm looks at :effort index entries.
WITH tried (seq, number) AS (
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses FROM outspoken_deliveries AS deliveries
        WHERE state = 'pending' AND lane = 1 AND origin = :origin AND CAST(:path AS text) = '' LIMIT :effort) AS held
    WHERE attempts + lapses > 0
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses FROM outspoken_deliveries AS deliveries
        WHERE state = 'pending' AND lane = 1 AND origin = :origin AND CAST(:path AS text) <> '' AND path = :path LIMIT :effort) AS held_there
    WHERE attempts + lapses > 0
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, origin, path FROM outspoken_deliveries AS deliveries
        WHERE state = 'pending' AND lane = 0 LIMIT :effort) AS ready
    WHERE origin = :origin AND attempts + lapses > 0 AND (CAST(:path AS text) = '' OR path = :path)
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, origin, path FROM outspoken_deliveries AS deliveries
        WHERE state = 'pending' AND lane = 2 AND due_at IS NOT NULL ORDER BY due_at DESC LIMIT :effort) AS waiting
    WHERE origin = :origin AND attempts + lapses > 0 AND (CAST(:path AS text) = '' OR path = :path)
    UNION ALL
    SELECT seq, attempts + lapses FROM (
        SELECT seq, attempts, lapses, origin, path FROM outspoken_deliveries AS deliveries
        WHERE state = 'dead' ORDER BY finished_at DESC LIMIT :effort) AS given_up
    WHERE origin = :origin AND attempts + lapses > 0 AND (CAST(:path AS text) = '' OR path = :path)
)
SELECT last.started_at, last.outcome, last.status, last.detail, last.answer_headers,
       deliveries.id, deliveries.body_bytes
FROM tried
JOIN outspoken_deliveries AS deliveries ON deliveries.seq = tried.seq
CROSS JOIN LATERAL (
    SELECT * FROM outspoken_attempts AS attempts WHERE attempts.seq = tried.seq ORDER BY number DESC LIMIT 1
) AS last
ORDER BY last.started_at DESC LIMIT :limit

-- retried --
-- How many of what waits was tried before, by endpoint. Retries are due last: the last :effort of what is scheduled, and
-- as many of what is held, will do.
SELECT origin, path, count(*) AS retried
FROM (SELECT * FROM (SELECT origin, path, attempts FROM outspoken_deliveries
                     WHERE state = 'pending' AND lane = 2 AND due_at IS NOT NULL ORDER BY due_at DESC LIMIT :effort) AS scheduled
      UNION ALL
      SELECT * FROM (SELECT origin, path, attempts FROM outspoken_deliveries
                     WHERE state = 'pending' AND lane = 1 ORDER BY due_at DESC LIMIT :effort) AS held) AS waiting
WHERE attempts > 0 GROUP BY origin, path

-- held_back --
-- What waits for each endpoint of some origins, because it, or its origin, is held.
SELECT origin, path, count(*) AS waiting, min(due_at) AS oldest_due_at
FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1 AND origin IN ({wanted}) GROUP BY origin, path

-- given_up --
-- What was given up since then, by endpoint: of the last :effort.
SELECT origin, path, count(*) AS dead
FROM (SELECT origin, path FROM outspoken_deliveries
      WHERE state = 'dead' AND finished_at >= :since ORDER BY finished_at DESC LIMIT :effort) AS latest
GROUP BY origin, path

-- destination --
-- How a destination stands that is about to be changed: a relay that writes of it, or another operator, waits until it is.
SELECT coalesce((SELECT state FROM outspoken_destinations WHERE origin = :origin AND path = :path FOR NO KEY UPDATE), 'active') AS state
WHERE EXISTS (SELECT 1 FROM outspoken_destinations WHERE origin = :origin)
   OR EXISTS (SELECT 1 FROM outspoken_deliveries WHERE origin = :origin)

-- matching --
-- What a bulk act would touch, oldest first, with all that decides whether it may. No limit is -1.
WITH looked AS MATERIALIZED (
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 0
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 1
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) = 'pending' AND state = 'pending' AND lane = 2
      AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_deliveries
    WHERE CAST(:tag AS text) IS NULL AND CAST(:state AS text) <> 'pending' AND state = :state AND seq >= :floor AND seq < :older
    UNION ALL
    SELECT seq FROM outspoken_tags AS tags WHERE tag = :tag AND seq >= :floor AND seq < :older
), chosen AS (
    SELECT deliveries.seq FROM looked JOIN outspoken_deliveries AS deliveries ON deliveries.seq = looked.seq
    WHERE deliveries.state = :state AND (CAST(:destination AS text) IS NULL OR deliveries.origin = :destination)
      AND (CAST(:owner AS text) IS NULL OR deliveries.owner = :owner)
      AND (CAST(:id_prefix AS text) IS NULL OR starts_with(deliveries.id, :id_prefix))
      AND (CAST(:since AS double precision) IS NULL OR deliveries.created_at >= :since)
      AND (CAST(:until AS double precision) IS NULL OR deliveries.created_at < :until)
      AND (CAST(:outcome AS text) IS NULL OR :outcome = (
            SELECT outcome FROM outspoken_attempts AS attempts WHERE attempts.seq = deliveries.seq ORDER BY number DESC LIMIT 1))
    ORDER BY deliveries.seq LIMIT nullif(CAST(:limit AS bigint), -1)
)
{selected}

-- named --
-- The same of deliveries named in a JSON array of ids.
WITH chosen (seq) AS (
    SELECT deliveries.seq FROM json_array_elements_text(CAST(:ids AS json)) AS wanted JOIN outspoken_deliveries AS deliveries ON deliveries.id = wanted.value
)
{selected}

-- lock_streams --
-- The streams of some deliveries, a JSON array of seqs, before any of those is touched: nothing joins a stream, and
-- nothing of it ends, until the act is committed. In one order, always, so that two acts do not wait for each other.
SELECT id FROM outspoken_streams
WHERE id IN (SELECT stream_id FROM outspoken_deliveries
             WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))))
ORDER BY id FOR NO KEY UPDATE

-- replay --
-- Once more from the start of the schedule. Attempts become lapses, so that the next attempt's number is a fresh one.
-- Of a stream it waits its turn (due_at NULL); without its body, in a killed stream or of a WebSocket, it stays what it
-- is. What another has in hand is left to it. The stream was locked by the statement before.
UPDATE outspoken_deliveries AS deliveries
SET state = 'pending', lane = 2, due_at = CASE WHEN stream_id IS NULL THEN CAST(:due_at AS double precision) END,
    lapses = lapses + attempts, attempts = 0, scheduled_from = :due_at, pointer = 0, finished_at = NULL, reason = NULL
WHERE seq = (SELECT seq FROM outspoken_deliveries AS deliveries WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled')
             FOR NO KEY UPDATE SKIP LOCKED)
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
  AND NOT EXISTS (SELECT 1 FROM outspoken_deliveries AS other
                  WHERE other.stream_id = :stream_id AND other.state IN ('pending', 'leased')
                    AND other.due_at IS NOT NULL)

-- cancel --
-- What a relay has just claimed, or another has in hand, is left to it. The stream was locked by the statement before.
UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = :now
WHERE seq = (SELECT seq FROM outspoken_deliveries WHERE seq = :seq AND state = 'pending' FOR NO KEY UPDATE SKIP LOCKED)
RETURNING stream_id

-- lock_keys --
-- One change of keys at a time: two that do not see each other could retire the last one of a scope between them.
LOCK TABLE outspoken_signing_keys IN SHARE ROW EXCLUSIVE MODE

-- rights --
-- What this session's role may not do, and a relay or an engine has to.
SELECT relname, may FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace,
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS needed (may, place)
WHERE nspname = 'outspoken' AND relkind = 'r' AND NOT has_table_privilege(pg_class.oid, may)
ORDER BY place, relname

-- may_not_migrate --
-- Who this session's role is, what the schema is called, and whether it is there, where it may neither make the schema nor change what is in
-- it; nothing where it may.
SELECT quote_ident(current_user) AS role, 'outspoken' AS schema, owner IS NOT NULL AS there
FROM (SELECT) AS one LEFT JOIN (SELECT nspowner AS owner FROM pg_namespace WHERE nspname = 'outspoken') AS place ON TRUE
WHERE NOT coalesce(pg_has_role(owner, 'USAGE'), has_database_privilege(current_database(), 'CREATE'))

-- begin_so --
-- Two of the deliveries whose id begins so. The order of the index may be a language's: it does not help.
SELECT id FROM outspoken_deliveries WHERE :begin <> '' AND starts_with(id, :begin) LIMIT 2
