-- Where PostgreSQL's words are not SQLite's: those of sqlite.sql, block by block. What is not here is the same on both.

-- anything_to_do --
-- By the least of each, which an index knows: EXISTS would read the table from its start while most of it is pending, and
-- go on doing so, over all that was delivered since, until the next ANALYZE.
SELECT coalesce((SELECT min(due_at) FROM outspoken_deliveries WHERE state = 'pending') <= :now, false)
    OR coalesce((SELECT min(lease_until) FROM outspoken_deliveries WHERE state = 'leased') <= :now, false) AS due,
       EXISTS (SELECT 1 FROM outspoken_deliveries WHERE destination_id IS NULL) AS unrouted

-- sweep --
-- Leases that nobody renewed are free again. Another relay may be sweeping too.
UPDATE outspoken_deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE seq = ANY(ARRAY(SELECT seq FROM outspoken_deliveries WHERE state = 'leased' AND lease_until <= :now FOR UPDATE SKIP LOCKED))

-- due_destinations --
-- Destinations with something due, from :after on: one index seek for each that has anything pending, however much. One
-- on probation is held until the claim is committed, and passed over while another relay holds it: two may not probe.
WITH RECURSIVE pending (id) AS (
    SELECT min(destination_id) FROM outspoken_deliveries
    WHERE state = 'pending' AND destination_id > :after AND destination_id <= :until
    UNION ALL
    SELECT (SELECT min(destination_id) FROM outspoken_deliveries
            WHERE state = 'pending' AND destination_id > pending.id AND destination_id <= :until)
    FROM pending WHERE pending.id IS NOT NULL
), due AS (
    SELECT pending.id AS id, destinations.open_until IS NOT NULL AS on_probation
    FROM pending JOIN outspoken_destinations AS destinations ON destinations.id = pending.id
    WHERE destinations.state = 'active' AND coalesce(destinations.open_until, 0) <= :now
      AND (SELECT min(due_at) FROM outspoken_deliveries WHERE state = 'pending' AND destination_id = pending.id) <= :now
    LIMIT :room
), probes AS (
    SELECT id FROM outspoken_destinations AS destinations
    WHERE id IN (SELECT id FROM due WHERE on_probation) AND open_until <= :now
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT coalesce(json_agg(json_build_array(id, on_probation) ORDER BY id), '[]') FROM due
WHERE NOT on_probation OR id IN (SELECT id FROM probes)

-- candidates --
-- The heads of the queues of some destinations, as JSON: {destination: [seq, ...]}. What another relay is about to claim
-- is passed over; what is found here is held until the claim is committed.
SELECT json_object_agg(wanted.value, coalesce(queue.seqs, '[]'))
FROM json_array_elements_text(CAST(:destinations AS json)) AS wanted
CROSS JOIN LATERAL (
    SELECT json_agg(seq ORDER BY due_at, seq) AS seqs FROM (
        SELECT seq, due_at FROM outspoken_deliveries
        WHERE state = 'pending' AND destination_id = CAST(wanted.value AS bigint) AND due_at <= :now
        ORDER BY due_at, seq LIMIT :cap FOR UPDATE SKIP LOCKED
    ) AS head
) AS queue

-- lease --
-- Claim the chosen deliveries, given as a JSON array of seqs.
UPDATE outspoken_deliveries SET state = 'leased', lease_token = :token, lease_until = :until
WHERE state = 'pending' AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))

-- claimed --
-- What a claim brought, in the order in which it was due, with those bodies that are small enough to be held until their
-- turn. A read after the update: RETURNING would copy each row once more.
SELECT seq, id, destination_id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
       attempts, lapses, schedule, stream_id, position, pointer, scheduled_from,
       CASE WHEN body_bytes <= :small THEN (SELECT body FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) END
FROM outspoken_deliveries AS deliveries
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))
ORDER BY due_at, seq

-- blocked --
-- Which of these destinations (a JSON array of ids) must be left alone now.
SELECT id FROM outspoken_destinations
WHERE id = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)))) AND (state <> 'active' OR open_until > :now)

-- signing_keys --
-- What signs for a destination now: its own keys where it has any, those of all others elsewhere.
SELECT key FROM outspoken_signing_keys
WHERE (retires_at IS NULL OR retires_at > :now)
  AND destination_id IS NOT DISTINCT FROM (
      SELECT max(own.destination_id) FROM outspoken_signing_keys AS own
      JOIN outspoken_destinations AS d ON d.id = own.destination_id
      WHERE d.origin = :origin AND (own.retires_at IS NULL OR own.retires_at > :now))
ORDER BY id

-- keys_version --
-- What changes whenever what signs does.
SELECT max(id), count(*), count(*) FILTER (WHERE retires_at IS NULL OR retires_at > :now) FROM outspoken_signing_keys

-- still_leased --
-- Which of these are still leased under a token, as a JSON array; they are held until their ends are committed.
SELECT coalesce(json_agg(seq), '[]') FROM (
    SELECT seq FROM outspoken_deliveries
    WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND state = 'leased' AND lease_token = :token
    ORDER BY seq FOR UPDATE
) AS standing

-- deliver --
-- The good end of attempts, for all seqs (a JSON array) under one token. A stale token changes nothing.
UPDATE outspoken_deliveries
SET state = 'delivered', attempts = attempts + 1, lease_token = NULL, lease_until = NULL, finished_at = :finished_at
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND state = 'leased' AND lease_token = :token

-- renew --
-- What a relay holds and is still at work on.
UPDATE outspoken_deliveries SET lease_until = :until
WHERE state = 'leased' AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND lease_token LIKE CAST(:holder AS text) || '.%'

-- expire --
-- What has been due for too long where nobody may call; what another has in hand is left to the next slice.
UPDATE outspoken_deliveries AS deliveries SET state = 'dead', reason = 'expired', finished_at = :now
WHERE seq = ANY(ARRAY(
    SELECT seq FROM outspoken_destinations AS destinations
    JOIN outspoken_deliveries AS deliveries ON deliveries.destination_id = destinations.id
    WHERE (destinations.state <> 'active' OR open_until IS NOT NULL)
      AND deliveries.state = 'pending' AND due_at < :before
    LIMIT :slice FOR UPDATE OF deliveries SKIP LOCKED
))
RETURNING stream_id

-- lock_destination_health --
-- What is known of a destination, read by whoever is about to write more: others wait until that is committed.
SELECT failures, open_until, pause, largest_accepted, smallest_refused FROM outspoken_destinations WHERE origin = :origin
FOR NO KEY UPDATE

-- record_destination_health --
-- What its attempts say of a destination. A 410 disables it: nobody wants anything there any more.
UPDATE outspoken_destinations
SET failures = :failures, open_until = :open_until, pause = :pause, largest_accepted = :largest_accepted,
    smallest_refused = :smallest_refused, state = CASE WHEN CAST(:gone AS boolean) THEN 'disabled' ELSE state END
WHERE origin = :origin

-- record_success --
-- Destinations of which nothing but successes came, given as {origin: largest body}. Only what changes is written.
UPDATE outspoken_destinations AS destinations
SET failures = 0, open_until = NULL, pause = 0,
    largest_accepted = greatest(largest_accepted, CAST(well.value AS bigint))
FROM json_each_text(CAST(:well AS json)) AS well
WHERE destinations.origin = well.key
  AND (failures > 0 OR open_until IS NOT NULL OR largest_accepted IS NULL
       OR largest_accepted < CAST(well.value AS bigint))

-- lock_stream --
-- Nothing joins a stream while one of its deliveries ends: neither would see the other, and the next would never be due.
SELECT id FROM outspoken_streams WHERE id = :stream_id FOR NO KEY UPDATE

-- kill_followers --
-- Those behind a dead delivery in a killed stream. Both conditions on state: the first is the one of the partial index
-- deliveries_stream, without which this would read the whole backlog.
UPDATE outspoken_deliveries SET state = 'dead', reason = 'stream_killed', finished_at = :now
WHERE stream_id = :stream_id AND state IN ('pending', 'leased') AND state = 'pending'

-- streams_to_tend --
-- Whether there is a stream for somebody to hold, and one for somebody to end.
SELECT coalesce(bool_or(transport = 'ws' AND holder IS NULL), false) AS waiting,
       coalesce(bool_or(coalesce(holder_until <= :now, false)
           OR state = 'open' AND coalesce(producer_until <= :now, false)
           OR transport = 'http' AND state = 'ended' AND NOT EXISTS (
              SELECT 1 FROM outspoken_deliveries AS deliveries
              WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased'))), false) AS overdue
FROM outspoken_streams AS streams
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)

-- take_streams --
-- Sockets that nobody holds; what another relay is about to take is left to it.
UPDATE outspoken_streams SET holder = :holder, holder_until = :until
WHERE id = ANY(ARRAY(
    SELECT id FROM outspoken_streams
    WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
      AND transport = 'ws' AND holder IS NULL
    ORDER BY id LIMIT :room FOR UPDATE SKIP LOCKED))
RETURNING id, key, url, headers

-- hold_streams --
-- Their holder lives: a JSON array of ids.
UPDATE outspoken_streams SET holder_until = :until WHERE id = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)))) AND holder = :holder

-- abandon_streams --
-- Their producer is overdue. It keeps its producer_until: that tells it from one that ended its stream.
UPDATE outspoken_streams SET state = 'ended'
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND state = 'open' AND producer_until <= :now

-- close_streams --
-- Ended, and every request of it came to its end.
UPDATE outspoken_streams AS streams SET state = 'closed', finished_at = :now
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND transport = 'http' AND state = 'ended'
  AND NOT EXISTS (SELECT 1 FROM outspoken_deliveries AS deliveries
                  WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased'))

-- orphaned_streams --
-- Their holder is overdue, and their socket is gone with it.
SELECT id, key, holder FROM outspoken_streams
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND holder_until <= :now

-- changed_streams --
-- What has changed about the streams that a relay holds, given as {id: position up to which it was read}.
SELECT streams.id, CASE WHEN position > CAST(known.value AS bigint) THEN position ELSE 0 END AS grown_to,
       holder IS NOT DISTINCT FROM :holder AS held, state = 'ended' AS ended, producer_until IS NOT NULL AS abandoned
FROM json_each_text(CAST(:known AS json)) AS known
JOIN outspoken_streams AS streams ON streams.id = CAST(known.key AS bigint)
WHERE position > CAST(known.value AS bigint) OR state <> 'open' OR holder IS DISTINCT FROM :holder

-- messages --
-- What is to be sent next on a socket, in order.
SELECT seq, id, method, kind, content_type, traceparent, body_bytes, created_at, attempts, lapses, position,
       (SELECT body FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) AS body
FROM outspoken_deliveries AS deliveries
WHERE stream_id = :stream_id AND position > :after AND state IN ('pending', 'leased') AND state = 'pending'
ORDER BY position LIMIT :room

-- still_held --
-- Which of these messages may still be written down by this holder, as a JSON array; they are held until that is committed.
SELECT coalesce(json_agg(seq), '[]') FROM (
    SELECT seq FROM outspoken_deliveries AS deliveries
    WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND state = 'pending'
      AND EXISTS (SELECT 1 FROM outspoken_streams AS streams WHERE streams.id = deliveries.stream_id AND holder = :holder)
    ORDER BY seq FOR UPDATE
) AS standing

-- end_messages --
-- The ends of messages, a JSON array of seqs: they were written to their socket, with or without its answer.
UPDATE outspoken_deliveries SET state = :state, reason = :reason, attempts = attempts + 1, finished_at = :finished_at
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))

-- snapshot --
-- The gauges that are one number each.
SELECT
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead') AS dead,
    (SELECT created_at FROM outspoken_deliveries WHERE seq = least(
        (SELECT min(seq) FROM outspoken_deliveries WHERE state = 'pending'),
        (SELECT min(seq) FROM outspoken_deliveries WHERE state = 'leased'))) AS oldest_created_at,
    -- Numbers are given out before the commit: one below the last may be under way still.
    (SELECT max(seq) FROM outspoken_deliveries) AS last_seq,
    CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS oldest_transaction,
    CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS next_transaction,
    (SELECT min(created_at) FROM outspoken_signing_keys WHERE retires_at IS NULL) AS key_created_at,
    (SELECT max(at) FROM outspoken_audit WHERE act = 'backup') AS backup_at

-- queues --
-- What is pending, destination by destination.
SELECT destinations.id, destinations.origin, count(*) AS waiting, count(*) FILTER (WHERE due_at <= :now) AS ready,
       min(due_at) AS oldest_due_at
FROM outspoken_deliveries AS deliveries JOIN outspoken_destinations AS destinations ON destinations.id = destination_id
WHERE deliveries.state = 'pending' GROUP BY destinations.id, destinations.origin

-- full --
-- Destinations that take no more for now.
SELECT destinations.origin FROM outspoken_deliveries AS deliveries
JOIN outspoken_destinations AS destinations ON destinations.id = destination_id
WHERE deliveries.state = 'leased' AND lease_until > :now GROUP BY destinations.id, destinations.origin HAVING count(*) >= :slots

-- acts --
-- What operators did to many deliveries at once, and how far they are: the line grows while they are at it.
SELECT id, at, act, source, CAST(coalesce(detail ->> 'done', '0') AS bigint) AS done FROM outspoken_audit
WHERE id > :after AND act IN ('delivery.replay', 'delivery.cancel')

-- forget_body --
-- Its delivery is held until that is committed: what an operator replays meanwhile keeps its body, and what is forgotten
-- is not replayed.
DELETE FROM outspoken_bodies WHERE seq = (
    SELECT seq FROM outspoken_deliveries WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled') FOR UPDATE
)
