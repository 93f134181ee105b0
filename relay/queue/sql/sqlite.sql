-- What a relay asks of the outbox, and writes into it. Each block begins with its name. A block of the same name in
-- postgres.sql takes its place on PostgreSQL.

-- anything_to_do --
-- Whether something is due, or a lease has run out; and whether something is yet to be routed. Asked without the write
-- lock, because an idle relay asks all the time.
SELECT EXISTS (SELECT 1 FROM outspoken_deliveries WHERE state = 'pending' AND due_at <= :now)
    OR EXISTS (SELECT 1 FROM outspoken_deliveries WHERE state = 'leased' AND lease_until <= :now) AS due, 0 AS unrouted

-- sweep --
-- A lease whose holder went quiet: the delivery is free again, and its next attempt gets a fresh number.
UPDATE outspoken_deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE state = 'leased' AND lease_until <= :now

-- release_lost_claim --
-- A claim whose answer was lost with the connection: nobody works on what it leased, if it leased anything.
UPDATE outspoken_deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL
WHERE state = 'leased' AND lease_token = :token

-- due_destinations --
-- The destinations that may be called and have something due, in id order between two ids, :room at the most, as a JSON
-- array of pairs: the id, and whether it is on probation (one delivery may probe). One seek per destination with anything
-- pending, so the cost does not grow with the backlog of any of them. IS NOT NULL skips those that wait in a stream.
WITH RECURSIVE pending (id) AS (
    SELECT min(destination_id) FROM outspoken_deliveries
    WHERE state = 'pending' AND destination_id > :after AND destination_id <= :until
    UNION ALL
    SELECT (SELECT min(destination_id) FROM outspoken_deliveries
            WHERE state = 'pending' AND destination_id > pending.id AND destination_id <= :until)
    FROM pending WHERE pending.id IS NOT NULL
)
SELECT json_group_array(json_array(id, on_probation)) FROM (
    SELECT pending.id AS id, destinations.open_until IS NOT NULL AS on_probation
    FROM pending JOIN outspoken_destinations AS destinations ON destinations.id = pending.id
    WHERE destinations.state = 'active' AND coalesce(destinations.open_until, 0) <= :now
      AND (SELECT min(due_at) FROM outspoken_deliveries
           WHERE state = 'pending' AND destination_id = pending.id AND due_at IS NOT NULL) <= :now
    LIMIT :room
)

-- in_flight --
-- Leases per destination, over every relay that shares the file: the cap counts them all.
SELECT destination_id, count(*) FROM outspoken_deliveries WHERE state = 'leased' GROUP BY destination_id

-- candidates --
-- The first :cap due deliveries of each destination in a JSON array of ids: one JSON object, under each id the seqs. A
-- window function or NOT IN would read the whole backlog; this seeks once per destination (SQLite takes no per-row LIMIT,
-- hence one cap for all), and reads nothing but the index.
SELECT json_group_object(wanted.value, (
    SELECT json_group_array(seq) FROM (
        SELECT seq FROM outspoken_deliveries
        WHERE state = 'pending' AND destination_id = wanted.value AND due_at <= :now AND due_at IS NOT NULL
        ORDER BY due_at, seq LIMIT :cap
    )
))
FROM json_each(:destinations) AS wanted

-- lease --
-- Claim the chosen deliveries, given as a JSON array of seqs.
UPDATE outspoken_deliveries SET state = 'leased', lease_token = :token, lease_until = :until
WHERE state = 'pending' AND seq IN (SELECT value FROM json_each(:seqs))

-- claimed --
-- What a claim brought, in the order in which it was due, with those bodies that are small enough to be held until their
-- turn. A read after the update: RETURNING would copy each row once more.
SELECT seq, id, destination_id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
       attempts, lapses, schedule, stream_id, position, pointer, scheduled_from,
       CASE WHEN body_bytes <= :small THEN (SELECT body FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) END
FROM outspoken_deliveries AS deliveries
WHERE seq IN (SELECT value FROM json_each(:seqs))
ORDER BY due_at, seq

-- origin --
-- The name of one destination.
SELECT origin FROM outspoken_destinations WHERE id = :id

-- blocked --
-- Which of these destinations (a JSON array of ids) must be left alone now.
SELECT id FROM outspoken_destinations
WHERE id IN (SELECT value FROM json_each(:ids)) AND (state <> 'active' OR open_until > :now)

-- next_due --
-- When the next delivery is due.
SELECT min(due_at) FROM outspoken_deliveries WHERE state = 'pending'

-- body --
-- A body that was too large to come with its claim.
SELECT body FROM outspoken_bodies WHERE seq = :seq

-- signing_keys --
-- The keys that sign for a destination now: its own, or else the global ones.
SELECT key FROM outspoken_signing_keys
WHERE (retires_at IS NULL OR retires_at > :now)
  AND destination_id IS (SELECT max(own.destination_id) FROM outspoken_signing_keys AS own JOIN outspoken_destinations AS d
                         ON d.id = own.destination_id
                         WHERE d.origin = :origin AND (own.retires_at IS NULL OR own.retires_at > :now))
ORDER BY id

-- keys_version --
-- Changes whenever another set of keys signs: one was added, or its time has come.
SELECT max(id), count(*), sum(retires_at IS NULL OR retires_at > :now) FROM outspoken_signing_keys

-- destination_health --
-- What is known of a destination: its breaker and its body limit.
SELECT failures, open_until, pause, largest_accepted, smallest_refused FROM outspoken_destinations WHERE origin = :origin

-- still_leased --
-- Which of these leases still stand, as a JSON array of seqs.
SELECT json_group_array(seq) FROM outspoken_deliveries
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'leased' AND lease_token = :token

-- deliver --
-- The good end of attempts, for all seqs (a JSON array) under one token. A stale token changes nothing.
UPDATE outspoken_deliveries
SET state = 'delivered', attempts = attempts + 1, lease_token = NULL, lease_until = NULL, finished_at = :finished_at
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'leased' AND lease_token = :token

-- settle --
-- The end of one attempt. A stale token changes nothing.
UPDATE outspoken_deliveries
SET state = :state, due_at = coalesce(:due_at, due_at), attempts = attempts + 1, lease_token = NULL,
    lease_until = NULL, finished_at = :finished_at, reason = :reason, pointer = :pointer
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- record_attempt --
-- What happened in one attempt; more rows are put behind it.
INSERT INTO outspoken_attempts
    (seq, number, started_at, lag, duration, outcome, status, peer, detail, timing, request_headers, answer_headers,
     excerpt)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- renew --
-- The attempt is still running: a JSON array of seqs under one holder's tokens.
UPDATE outspoken_deliveries SET lease_until = :until
WHERE state = 'leased' AND seq IN (SELECT value FROM json_each(:seqs)) AND lease_token LIKE :holder || '.%'

-- release --
-- An attempt was cut short: free again at once. Part of it may have been sent, so the next one gets a fresh number.
UPDATE outspoken_deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- give_back --
-- A claim that was never sent goes back as it was.
UPDATE outspoken_deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- expire --
-- What has waited too long past its due time for a destination that is left alone. A slice, so that claims go on. Where
-- deliveries may go they are late because no relay ran, and each gets its attempts.
UPDATE outspoken_deliveries AS deliveries SET state = 'dead', reason = 'expired', finished_at = :now
WHERE seq IN (
    SELECT seq FROM outspoken_destinations AS destinations
    CROSS JOIN outspoken_deliveries AS deliveries ON deliveries.destination_id = destinations.id
    WHERE (destinations.state <> 'active' OR open_until IS NOT NULL)
      AND deliveries.state = 'pending' AND due_at < :before AND due_at IS NOT NULL
    LIMIT :slice
)
RETURNING stream_id

-- lock_destination_health --
-- What is known of a destination, read by whoever is about to write more. SQLite has one writer at a time.
SELECT failures, open_until, pause, largest_accepted, smallest_refused FROM outspoken_destinations WHERE origin = :origin

-- record_destination_health --
-- What a destination's attempts say of it: its breaker, its limit of sizes; a 410 disables it.
UPDATE outspoken_destinations
SET failures = :failures, open_until = :open_until, pause = :pause, largest_accepted = :largest_accepted,
    smallest_refused = :smallest_refused, state = CASE WHEN :gone THEN 'disabled' ELSE state END
WHERE origin = :origin

-- record_success --
-- Destinations of which nothing but successes came, each with the largest body that it took: a JSON object by origin. Those
-- that were well already and took larger ones before are not written.
UPDATE outspoken_destinations AS destinations
SET failures = 0, open_until = NULL, pause = 0, largest_accepted = max(coalesce(largest_accepted, 0), well.value)
FROM json_each(:well) AS well
WHERE destinations.origin = well.key
  AND (failures > 0 OR open_until IS NOT NULL OR largest_accepted IS NULL OR largest_accepted < well.value)

-- lock_stream --
-- Nothing joins a stream while one of its deliveries ends. SQLite has one writer at a time anyway.
SELECT id FROM outspoken_streams WHERE id = :stream_id

-- advance_stream --
-- One delivery of a stream has ended: the next one is due.
UPDATE outspoken_deliveries SET due_at = :now
WHERE due_at IS NULL AND seq = (
    SELECT seq FROM outspoken_deliveries
    WHERE stream_id = :stream_id AND state IN ('pending', 'leased') ORDER BY position LIMIT 1
)

-- kill_stream --
-- A dead delivery ends its stream, if the stream says so.
UPDATE outspoken_streams SET state = 'killed', reason = 'delivery_dead', finished_at = :now WHERE id = :stream_id AND on_dead = 'kill'

-- kill_followers --
-- Those behind a dead delivery in a killed stream. Both conditions on state: the first is the one of the partial index
-- deliveries_stream, without which this would read the whole backlog.
UPDATE outspoken_deliveries INDEXED BY outspoken_deliveries_stream SET state = 'dead', reason = 'stream_killed', finished_at = :now
WHERE stream_id = :stream_id AND state IN ('pending', 'leased') AND state = 'pending'

-- heartbeat --
-- This relay is at work.
INSERT INTO outspoken_relays (holder, seen_at) VALUES (:holder, :now) ON CONFLICT (holder) DO UPDATE SET seen_at = :now

-- relays --
-- Relays at work, and how many of them come before this one.
SELECT count(*), count(*) FILTER (WHERE holder < :holder) FROM outspoken_relays WHERE seen_at > :since

-- forget_relays --
-- Relays that are long gone: each start is another holder.
DELETE FROM outspoken_relays WHERE seen_at < :before

-- leave --
-- A relay that leaves: the others need not wait until it has been silent.
DELETE FROM outspoken_relays WHERE holder = :holder

-- streams_to_tend --
-- Whether some stream waits for a holder, and whether some other has come to an end that nobody has written down: its
-- producer or its holder is overdue, or the last of its requests was answered.
SELECT max(transport = 'ws' AND holder IS NULL) AS waiting,
       max(coalesce(holder_until <= :now, 0)
           OR state = 'open' AND coalesce(producer_until <= :now, 0)
           OR transport = 'http' AND state = 'ended' AND NOT EXISTS (
              SELECT 1 FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_stream
              WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased'))) AS overdue
FROM outspoken_streams AS streams INDEXED BY outspoken_streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)

-- streams_depend_on --
-- The processes that live streams end with: those that hold their sockets, and those that promised to end them.
SELECT holder AS name FROM outspoken_streams INDEXED BY outspoken_streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND holder IS NOT NULL
UNION
SELECT producer FROM outspoken_streams INDEXED BY outspoken_streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND state = 'open' AND producer_until IS NOT NULL AND producer IS NOT NULL

-- take_streams --
-- Hold the sockets of some streams that nobody holds: the oldest first.
UPDATE outspoken_streams SET holder = :holder, holder_until = :until
WHERE id IN (SELECT id FROM outspoken_streams INDEXED BY outspoken_streams_live
             WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
               AND transport = 'ws' AND holder IS NULL
             ORDER BY id LIMIT :room)
RETURNING id, key, url, headers

-- hold_streams --
-- Their holder lives: a JSON array of ids.
UPDATE outspoken_streams SET holder_until = :until WHERE id IN (SELECT value FROM json_each(:ids)) AND holder = :holder

-- abandon_streams --
-- Their producer is overdue, or among those (a JSON array) that are known to be gone. It keeps its producer_until: that
-- tells it from one that ended its stream.
UPDATE outspoken_streams INDEXED BY outspoken_streams_live SET state = 'ended'
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND state = 'open' AND producer_until IS NOT NULL
  AND (producer_until <= :now OR producer IN (SELECT value FROM json_each(:gone)))

-- close_streams --
-- Ended, and every request of it came to its end.
UPDATE outspoken_streams AS streams INDEXED BY outspoken_streams_live SET state = 'closed', finished_at = :now
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND transport = 'http' AND state = 'ended'
  AND NOT EXISTS (SELECT 1 FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_stream
                  WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased'))

-- orphaned_streams --
-- Their holder is overdue, or among those (a JSON array) that are known to be gone, and their socket is gone with it.
SELECT id, key, holder FROM outspoken_streams INDEXED BY outspoken_streams_live
WHERE state IN ('open', 'ended') AND (transport = 'ws' OR state = 'ended' OR producer_until IS NOT NULL)
  AND holder IS NOT NULL AND (holder_until <= :now OR holder IN (SELECT value FROM json_each(:gone)))

-- finish_stream --
-- The end of a stream, by whoever holds its socket.
UPDATE outspoken_streams SET state = :state, reason = :reason, finished_at = :now, holder = NULL, holder_until = NULL
WHERE id = :stream_id AND holder = :holder

-- changed_streams --
-- Of the streams in a JSON object (under each id the position up to which it was read), those that something was added to,
-- or that are no longer simply open under this holder.
SELECT streams.id, iif(position > known.value, position, 0) AS grown_to, holder IS :holder AS held,
       state = 'ended' AS ended, producer_until IS NOT NULL AS abandoned
FROM json_each(:known) AS known CROSS JOIN outspoken_streams AS streams ON streams.id = CAST(known.key AS INTEGER)
WHERE position > known.value OR state <> 'open' OR holder IS NOT :holder

-- messages --
-- The next messages of one stream. Both conditions on state: the first is that of the index.
SELECT seq, id, method, kind, content_type, traceparent, body_bytes, created_at, attempts, lapses, position,
       (SELECT body FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) AS body
FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_stream
WHERE stream_id = :stream_id AND position > :after AND state IN ('pending', 'leased') AND state = 'pending'
ORDER BY position LIMIT :room

-- still_held --
-- Which of these messages (a JSON array of seqs) still wait in streams of this holder.
SELECT json_group_array(seq) FROM outspoken_deliveries AS deliveries
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'pending'
  AND EXISTS (SELECT 1 FROM outspoken_streams AS streams WHERE streams.id = deliveries.stream_id AND holder = :holder)

-- end_messages --
-- The ends of messages, a JSON array of seqs: they were written to their socket, with or without its answer.
UPDATE outspoken_deliveries SET state = :state, reason = :reason, attempts = attempts + 1, finished_at = :finished_at
WHERE seq IN (SELECT value FROM json_each(:seqs))

-- may_be_called --
-- Whether a destination may be called.
SELECT state = 'active' AND coalesce(open_until, 0) <= :now FROM outspoken_destinations WHERE origin = :origin

-- snapshot --
-- The gauges that are no matter of one destination, each from a partial index and never over delivered history (hence
-- INDEXED BY).
SELECT
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead') AS dead,
    (SELECT created_at FROM outspoken_deliveries WHERE seq = min(
        coalesce((SELECT min(seq) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_due WHERE state = 'pending'), 9223372036854775807),
        coalesce((SELECT min(seq) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_leased WHERE state = 'leased'), 9223372036854775807))) AS oldest_created_at,
    -- One writer at a time: what has a number is committed, and nothing else is under way.
    (SELECT seq FROM sqlite_sequence WHERE name = 'outspoken_deliveries') AS last_seq, 0 AS oldest_transaction, 0 AS next_transaction,
    (SELECT min(created_at) FROM outspoken_signing_keys WHERE retires_at IS NULL) AS key_created_at,
    (SELECT max(at) FROM outspoken_audit WHERE act = 'backup') AS backup_at

-- added --
-- What came since the last count: a range of new rows, not of history.
SELECT kind, count(*) FROM outspoken_deliveries WHERE seq > :after AND seq <= :last GROUP BY kind

-- queues --
-- What waits for each destination, and how much of it is due. One pass over the partial index of what is pending.
SELECT destinations.id, destinations.origin, count(*) AS waiting, count(*) FILTER (WHERE due_at <= :now) AS ready,
       min(due_at) AS oldest_due_at
FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_due
JOIN outspoken_destinations AS destinations ON destinations.id = destination_id
WHERE deliveries.state = 'pending' GROUP BY destination_id

-- destination_states --
-- How many destinations stand how: active, paused, disabled, or open (the breaker; it has yet to prove itself).
SELECT CASE WHEN state = 'active' AND open_until IS NOT NULL THEN 'open' ELSE state END AS shown_state, count(*)
FROM outspoken_destinations GROUP BY shown_state

-- left_alone --
-- Destinations that are not called as they would be: paused, disabled, or their breaker has yet to close.
SELECT id, origin, open_until IS NOT NULL AS open FROM outspoken_destinations WHERE state <> 'active' OR open_until IS NOT NULL

-- full --
-- Destinations whose slots are all taken, or promised to what was claimed ahead: whatever else is due there waits.
SELECT destinations.origin FROM outspoken_deliveries AS deliveries
JOIN outspoken_destinations AS destinations ON destinations.id = destination_id
WHERE deliveries.state = 'leased' AND lease_until > :now GROUP BY destination_id HAVING count(*) >= :slots

-- acts --
-- What operators did lately: `done` grows while a bulk act goes through its slices.
SELECT id, at, act, source, coalesce(detail ->> 'done', 0) AS done FROM outspoken_audit
WHERE id > :after AND act IN ('delivery.replay', 'delivery.cancel')

-- retention_slice --
-- The next rows in the order in which they were added. No index on finished_at: it would be paid for at every
-- settlement, and this walk happens when there is nothing better to do.
SELECT seq, state, created_at, finished_at, body_bytes, stream_id FROM outspoken_deliveries
WHERE seq > :after ORDER BY seq LIMIT :slice

-- retention_count --
-- What of one delivery there is to forget.
SELECT (SELECT count(*) FROM outspoken_attempts WHERE seq = :seq) AS attempts, (SELECT count(*) FROM outspoken_bodies WHERE seq = :seq) AS bodies

-- forget_attempts --
-- What happened to one delivery.
DELETE FROM outspoken_attempts WHERE seq = :seq

-- forget_body --
-- The body of one delivery.
DELETE FROM outspoken_bodies WHERE seq = :seq

-- forget_delivery --
-- After its body and its attempts, which refer to it.
DELETE FROM outspoken_deliveries WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled')

-- stream_slice --
-- The next streams in the order in which they appeared: the last of them, and how many they are.
SELECT max(id) AS last, count(*) AS seen FROM (SELECT id FROM outspoken_streams WHERE id > :after ORDER BY id LIMIT :slice) AS page

-- stream_sizes --
-- Streams that can be forgotten, and how many deliveries of each are left.
SELECT id, (SELECT count(*) FROM outspoken_deliveries WHERE stream_id = streams.id) AS deliveries
FROM outspoken_streams AS streams
WHERE (finished_at IS NULL OR finished_at <= :before)
  AND NOT (state IN ('open', 'ended') AND (transport = 'ws' OR producer_until IS NOT NULL))

-- forget_streams --
-- Streams of which no delivery is left, and that came to their end, if they have one, so long ago that no producer asks any
-- more. Those that somebody has to look after stay. Whoever uses a key again begins another stream, with another id
-- (AUTOINCREMENT) and positions from 1.
DELETE FROM outspoken_streams AS streams
WHERE id > :after AND id <= :last AND (finished_at IS NULL OR finished_at <= :before)
  AND NOT (state IN ('open', 'ended') AND (transport = 'ws' OR producer_until IS NOT NULL))
  AND NOT EXISTS (SELECT 1 FROM outspoken_deliveries WHERE stream_id = streams.id)

-- forget_audit --
-- What operators did, the oldest first.
DELETE FROM outspoken_audit WHERE id IN (SELECT id FROM outspoken_audit WHERE at <= :before ORDER BY id LIMIT :slice)

-- forget_keys --
-- A key that signs nothing any more is a secret kept for no purpose.
DELETE FROM outspoken_signing_keys WHERE retires_at <= :now
