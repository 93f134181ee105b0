-- What a relay asks of the outbox, and writes into it. Each block begins with its name. A block of the same name in
-- postgres.sql takes its place on PostgreSQL.

-- anything_to_do --
-- What a claim would find: whether something is ready; and when something will be due, a held destination has its turn, and
-- a lease runs out. Asked without the write lock, because an idle relay asks all the time.
SELECT EXISTS (SELECT 1 FROM outspoken_deliveries INDEXED BY outspoken_deliveries_ready WHERE state = 'pending' AND lane = 0) AS ready,
       (SELECT min(due_at) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_scheduled WHERE state = 'pending' AND lane = 2) AS due_at,
       (SELECT min(turn_at) FROM outspoken_destinations WHERE turn_at IS NOT NULL) AS turn_at,
       (SELECT min(lease_until) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_leased WHERE state = 'leased') AS lease_until

-- sweep --
-- A lease whose holder went quiet: the delivery is free again, and its next attempt gets a fresh number.
UPDATE outspoken_deliveries SET state = 'pending', lane = 2, lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE state = 'leased' AND lease_until <= :now

-- release_lost_claim --
-- A claim whose answer was lost with the connection: nobody works on what it leased, if it leased anything.
UPDATE outspoken_deliveries SET state = 'pending', lane = 2, lease_token = NULL, lease_until = NULL
WHERE state = 'leased' AND lease_token = :token

-- fallen_due --
-- What was scheduled and has become due, :slice at the most, as a JSON array: its number, owner, origin and path, and whether
-- its origin or its endpoint is held.
SELECT json_group_array(json_array(seq, owner, origin, path, whole, part)) FROM (
    SELECT seq, owner, origin, path,
           EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = due.origin AND d.path = '' AND d.held = 1) AS whole,
           EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = due.origin AND d.path = due.path AND d.held = 1) AS part
    FROM outspoken_deliveries AS due INDEXED BY outspoken_deliveries_scheduled
    WHERE state = 'pending' AND lane = 2 AND due_at <= :now ORDER BY due_at LIMIT :slice
)

-- set_lane --
-- Some that are pending, a JSON array of seqs, stand in another lane from now on.
UPDATE outspoken_deliveries SET lane = :lane WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'pending'

-- arm --
-- Something waits for these, a JSON array of origin, path, owner and whether it was tried: each is asked for what it allows
-- as soon as it may allow something. One that is gone, or new, gets a row.
INSERT INTO outspoken_destinations (origin, path, owner, tried, held, silent, turn_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
       1 - json_extract(value, '$[3]'), 1 - json_extract(value, '$[3]'), :now
FROM json_each(:keys) WHERE true
ON CONFLICT (origin, path) DO UPDATE
SET owner = excluded.owner, turn_at = coalesce(turn_at, max(allowed_at, :now))

-- few_ready --
-- What is ready, :most at the most: its number, owner, origin and path, whether its origin is known, and whether that is
-- held, or its endpoint is.
SELECT seq, ready.owner, ready.origin, ready.path, whole.origin IS NOT NULL, coalesce(whole.held, 0) + coalesce(part.held, 0) > 0
FROM (SELECT seq, owner, origin, path FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
      ORDER BY owner, origin, path, priority DESC, due_at, seq LIMIT :most) AS ready
LEFT JOIN outspoken_destinations AS whole ON whole.origin = ready.origin AND whole.path = ''
LEFT JOIN outspoken_destinations AS part ON part.origin = ready.origin AND part.path = ready.path

-- groups --
-- All endpoints for which something is ready, by owner, origin and path, :most at the most, as a JSON array: of each whether
-- its origin is known, whether that is held, and whether it is held itself. A few seeks each: a comparison of all three
-- at once would seek by the first of them only.
WITH RECURSIVE ready (place) AS (
    SELECT (SELECT json_array(owner, origin, path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
            ORDER BY owner, origin, path LIMIT 1)
    UNION ALL
    SELECT coalesce(
        (SELECT json_array(owner, origin, path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
            AND owner = json_extract(ready.place, '$[0]') AND origin = json_extract(ready.place, '$[1]')
            AND path > json_extract(ready.place, '$[2]') ORDER BY path LIMIT 1),
        (SELECT json_array(owner, origin, path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
            AND owner = json_extract(ready.place, '$[0]') AND origin > json_extract(ready.place, '$[1]')
         ORDER BY origin, path LIMIT 1),
        (SELECT json_array(owner, origin, path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
            AND owner > json_extract(ready.place, '$[0]') ORDER BY owner, origin, path LIMIT 1))
    FROM ready WHERE ready.place IS NOT NULL
)
SELECT json_group_array(json_array(pairs.owner, pairs.origin, pairs.path, whole.origin IS NOT NULL, coalesce(whole.held, 0), coalesce(part.held, 0)))
FROM (SELECT json_extract(place, '$[0]') AS owner, json_extract(place, '$[1]') AS origin, json_extract(place, '$[2]') AS path
      FROM ready WHERE place IS NOT NULL LIMIT :most) AS pairs
LEFT JOIN outspoken_destinations AS whole ON whole.origin = pairs.origin AND whole.path = ''
LEFT JOIN outspoken_destinations AS part ON part.origin = pairs.origin AND part.path = pairs.path

-- owners --
-- Where those are too many: owners with something ready, in their order from one on, as a JSON array: one seek each.
WITH RECURSIVE ready (owner) AS (
    SELECT min(owner) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0 AND owner >= :after
    UNION ALL
    SELECT (SELECT min(owner) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0 AND owner > ready.owner)
    FROM ready WHERE ready.owner IS NOT NULL
)
SELECT json_group_array(owner) FROM (SELECT owner FROM ready WHERE owner IS NOT NULL LIMIT :room)

-- origins --
-- To which origins something of some owners is ready: for each pair in a JSON array, of an owner and an origin, those from
-- that origin on, :room at the most; an array of pairs. One seek each, however much waits.
SELECT json_group_array(json_array(owner, origin)) FROM (
    SELECT json_extract(wanted.value, '$[0]') AS owner, found.value AS origin
    FROM json_each(:owners) AS wanted, json_each((
        WITH RECURSIVE ready (origin) AS (
            SELECT min(origin) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
               AND owner = json_extract(wanted.value, '$[0]') AND origin >= json_extract(wanted.value, '$[1]')
            UNION ALL
            SELECT (SELECT min(origin) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
                      AND owner = json_extract(wanted.value, '$[0]') AND origin > ready.origin)
            FROM ready WHERE ready.origin IS NOT NULL
        )
        SELECT json_group_array(origin) FROM (SELECT origin FROM ready WHERE origin IS NOT NULL LIMIT :room)
    )) AS found
)

-- endpoints --
-- The same one step further: for each triple of an owner, an origin and a path, the endpoints from that path on; and of
-- each whether its origin is known, whether that is held, and whether it is held itself.
SELECT json_group_array(json_array(pairs.owner, pairs.origin, pairs.path, whole.origin IS NOT NULL, coalesce(whole.held, 0), coalesce(part.held, 0)))
FROM (
    SELECT json_extract(wanted.value, '$[0]') AS owner, json_extract(wanted.value, '$[1]') AS origin, found.value AS path
    FROM json_each(:origins) AS wanted, json_each((
        WITH RECURSIVE ready (path) AS (
            SELECT min(path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
               AND owner = json_extract(wanted.value, '$[0]') AND origin = json_extract(wanted.value, '$[1]')
               AND path >= json_extract(wanted.value, '$[2]')
            UNION ALL
            SELECT (SELECT min(path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
                      AND owner = json_extract(wanted.value, '$[0]') AND origin = json_extract(wanted.value, '$[1]')
                      AND path > ready.path)
            FROM ready WHERE ready.path IS NOT NULL
        )
        SELECT json_group_array(path) FROM (SELECT path FROM ready WHERE path IS NOT NULL LIMIT :room)
    )) AS found
) AS pairs
LEFT JOIN outspoken_destinations AS whole ON whole.origin = pairs.origin AND whole.path = ''
LEFT JOIN outspoken_destinations AS part ON part.origin = pairs.origin AND part.path = pairs.path

-- arrived --
-- What came since a seq, the newest :room of it, as a JSON array: the newest seq, and the owners and the origins of what is
-- ready. Nothing but new rows is read.
SELECT json_array(coalesce(max(seq), 0), json_group_array(json_array(owner, origin)) FILTER (WHERE state = 'pending' AND lane = 0))
FROM (SELECT seq, owner, origin, state, lane FROM outspoken_deliveries WHERE seq > :after ORDER BY seq DESC LIMIT :room)

-- heads --
-- The first :cap of each group in a JSON array of an owner, an origin and a path: an array of arrays of seqs. Nothing but
-- the index is read.
SELECT json_group_array(json((
    SELECT json_group_array(seq) FROM (
        SELECT seq FROM outspoken_deliveries
        WHERE state = 'pending' AND lane = 0 AND owner = json_extract(wanted.value, '$[0]')
          AND origin = json_extract(wanted.value, '$[1]') AND path = json_extract(wanted.value, '$[2]')
        ORDER BY priority DESC, due_at, seq LIMIT :cap
    )
)))
FROM json_each(:groups) AS wanted

-- turns --
-- Held destinations of one kind whose turn it is, from one owner on, as a JSON array of owner, origin and path: of each owner
-- :each at the most, those first that have waited longest.
WITH RECURSIVE waiting (owner) AS (
    SELECT min(owner) FROM outspoken_destinations
    WHERE turn_at IS NOT NULL AND silent = :silent AND tried = :tried AND owner >= :after
    UNION ALL
    SELECT (SELECT min(owner) FROM outspoken_destinations
            WHERE turn_at IS NOT NULL AND silent = :silent AND tried = :tried AND owner > waiting.owner)
    FROM waiting WHERE waiting.owner IS NOT NULL
)
SELECT json_group_array(json_array(owner, json_extract(place, '$[0]'), json_extract(place, '$[1]'))) FROM (
    SELECT waiting.owner AS owner, found.value AS place
    FROM waiting, json_each((
        SELECT json_group_array(json_array(origin, path)) FROM (
            SELECT origin, path FROM outspoken_destinations AS d
            WHERE d.silent = :silent AND d.tried = :tried AND d.owner = waiting.owner AND d.turn_at <= :now ORDER BY d.turn_at LIMIT :each
        )
    )) AS found
    WHERE waiting.owner IS NOT NULL LIMIT :room
)

-- healths --
-- What is known of some destinations, a JSON array of pairs, and how many attempts are under way to each.
SELECT d.origin, d.path, d.state, d.held, d.tried, d.owner, d.silent, d.failures, d.open, d.starts, d.rate, d.every, d.slowed_at, d.allowed_at,
       CASE d.path WHEN '' THEN (SELECT count(*) FROM outspoken_deliveries AS deliveries
                                 WHERE deliveries.state = 'leased' AND deliveries.origin = d.origin)
       ELSE (SELECT count(*) FROM outspoken_deliveries AS deliveries
             WHERE deliveries.state = 'leased' AND deliveries.origin = d.origin AND deliveries.path = d.path) END AS in_flight
FROM json_each(:keys) AS wanted
JOIN outspoken_destinations AS d ON d.origin = json_extract(wanted.value, '$[0]') AND d.path = json_extract(wanted.value, '$[1]')

-- held_endpoints --
-- Of which endpoints of some origins, a JSON array of an origin and a path to begin with, something is held because of the
-- origin, and not because of themselves: :room each at the most, as an array of pairs.
SELECT json_group_array(json_array(origin, path)) FROM (
    SELECT json_extract(wanted.value, '$[0]') AS origin, found.value AS path
    FROM json_each(:origins) AS wanted, json_each((
        WITH RECURSIVE waiting (path) AS (
            SELECT min(path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1
               AND origin = json_extract(wanted.value, '$[0]') AND path >= json_extract(wanted.value, '$[1]')
            UNION ALL
            SELECT (SELECT min(path) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1
                      AND origin = json_extract(wanted.value, '$[0]') AND path > waiting.path)
            FROM waiting WHERE waiting.path IS NOT NULL
        )
        SELECT json_group_array(path) FROM (SELECT path FROM waiting WHERE path IS NOT NULL LIMIT :room)
    )) AS found
) AS pairs
WHERE NOT EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = pairs.origin AND d.path = pairs.path AND d.held = 1)

-- held_heads --
-- The first :cap that are held of each endpoint in a JSON array of pairs: an array of arrays, of a seq, its due time and
-- its URL.
SELECT json_group_array(json((
    SELECT json_group_array(json_array(seq, due_at, url)) FROM (
        SELECT seq, due_at, url FROM outspoken_deliveries
        WHERE state = 'pending' AND lane = 1
          AND origin = json_extract(wanted.value, '$[0]') AND path = json_extract(wanted.value, '$[1]')
        ORDER BY priority DESC, due_at, seq LIMIT :cap
    )
)))
FROM json_each(:keys) AS wanted

-- had_turn --
-- What a destination that was asked looks like afterwards, and when it is asked again.
UPDATE outspoken_destinations
SET held = :held, starts = :starts, rate = :rate, every = :every, allowed_at = :allowed_at, turn_at = :turn_at
WHERE origin = :origin AND path = :path

-- forget_destination --
-- An endpoint of which there is nothing to remember. An origin is remembered: it was tried.
DELETE FROM outspoken_destinations
WHERE origin = :origin AND path = :path AND path <> '' AND state = 'active' AND held = 0 AND failures = 0
  AND smallest_refused IS NULL AND turn_at IS NULL

-- gone --
-- Since when a URL, by its SHA-256, is called no more.
SELECT since FROM outspoken_gone_urls WHERE sha256 = :sha256

-- body_limits --
-- What is known of an endpoint's limit: its own, and the largest that it, or else its origin, accepted.
SELECT coalesce((SELECT largest_accepted FROM outspoken_destinations WHERE origin = :origin AND path = :path),
                (SELECT largest_accepted FROM outspoken_destinations WHERE origin = :origin AND path = '')),
       (SELECT smallest_refused FROM outspoken_destinations WHERE origin = :origin AND path = :path)

-- noteworthy --
-- Of some destinations, a JSON array of origin, path and the largest body that they took just now, those of which there is
-- something to write although all went well: an array of origin, path, and whether more is to be written than of a success.
SELECT json_group_array(json_array(place.origin, place.path, coalesce(d.held = 1 OR d.failures > 0 OR place.path <> '', 0)))
FROM (SELECT json_extract(value, '$[0]') AS origin, json_extract(value, '$[1]') AS path, json_extract(value, '$[2]') AS size
      FROM json_each(:keys)) AS place
LEFT JOIN outspoken_destinations AS d ON d.origin = place.origin AND d.path = place.path
WHERE d.held = 1 OR d.failures > 0 OR coalesce(d.largest_accepted, CASE place.path WHEN '' THEN -1 ELSE 0 END) < place.size
      AND (d.origin IS NOT NULL OR place.path = '')

-- lock_health --
-- What is known of some destinations, a JSON array of pairs, read by whoever is about to write more. SQLite has one writer at
-- a time.
SELECT d.origin, d.path, d.state, d.held, d.turn_at, d.silent, d.failures, d.open, d.starts, d.rate, d.every, d.slowed_at,
       d.allowed_at, d.largest_accepted, d.smallest_refused
FROM json_each(:keys) AS wanted
JOIN outspoken_destinations AS d ON d.origin = json_extract(wanted.value, '$[0]') AND d.path = json_extract(wanted.value, '$[1]')

-- held_healths --
-- What is known of an endpoint and of its origin, where they are in trouble.
SELECT state, silent, failures, open, starts, rate, every, slowed_at, allowed_at
FROM outspoken_destinations WHERE origin = :origin AND path IN ('', :path) AND held = 1

-- record_health --
-- What the attempts at a destination say of it. Where it is held, or was until now, it is asked what it allows.
INSERT INTO outspoken_destinations
    (origin, path, held, silent, failures, open, starts, rate, every, slowed_at, allowed_at, owner, turn_at, largest_accepted,
     smallest_refused)
VALUES (:origin, :path, :held, :silent, :failures, :open, :starts, :rate, :every, :slowed_at, :allowed_at, :owner, :turn_at,
        :largest_accepted, :smallest_refused)
ON CONFLICT (origin, path) DO UPDATE
SET held = CASE WHEN state = 'active' THEN excluded.held ELSE 1 END, tried = 1, silent = excluded.silent, failures = excluded.failures,
    open = excluded.open, starts = excluded.starts, rate = excluded.rate, every = excluded.every,
    slowed_at = excluded.slowed_at, allowed_at = excluded.allowed_at, owner = excluded.owner,
    turn_at = coalesce(excluded.turn_at, turn_at), largest_accepted = excluded.largest_accepted,
    smallest_refused = excluded.smallest_refused

-- record_gone --
-- A URL that answered 410.
INSERT INTO outspoken_gone_urls (sha256, origin, path, since) VALUES (:sha256, :origin, :path, :since)
ON CONFLICT (sha256) DO NOTHING

-- lease --
-- Claim the chosen deliveries, given as a JSON array of seqs.
UPDATE outspoken_deliveries SET state = 'leased', lease_token = :token, lease_until = :until
WHERE state = 'pending' AND seq IN (SELECT value FROM json_each(:seqs))

-- claimed --
-- What a claim brought, in any order, since to sort it here would copy each body twice; with those bodies that are small
-- enough to be held until their turn; not what was chosen and could not be leased. A read after the update: RETURNING would
-- copy each row once more.
SELECT seq, id, origin, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
       attempts, lapses, schedule, stream_id, position, pointer, scheduled_from, path, owner, lane,
       EXISTS (SELECT 1 FROM outspoken_gone_urls AS gone WHERE gone.origin = deliveries.origin AND gone.path = deliveries.path) AS gone,
       CASE WHEN body_bytes <= :small THEN (SELECT body FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) END
FROM outspoken_deliveries AS deliveries
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND lease_token = :token

-- blocked --
-- Of some endpoints, a JSON array of pairs, those that are held, themselves or with their origin; and whether an operator
-- said so.
SELECT json_extract(wanted.value, '$[0]'), json_extract(wanted.value, '$[1]'), max(d.state <> 'active')
FROM json_each(:keys) AS wanted
JOIN outspoken_destinations AS d
  ON d.origin = json_extract(wanted.value, '$[0]') AND d.path IN ('', json_extract(wanted.value, '$[1]')) AND d.held = 1
GROUP BY 1, 2

-- body --
-- A body that was too large to come with its claim.
SELECT body FROM outspoken_bodies WHERE seq = :seq

-- signing_keys --
-- The keys that sign now, each with the origin that it is for, or none.
SELECT origin, key FROM outspoken_signing_keys WHERE retires_at IS NULL OR retires_at > :now ORDER BY id

-- keys_version --
-- Changes whenever another set of keys signs: one was added, or its time has come.
SELECT max(id), count(*), sum(retires_at IS NULL OR retires_at > :now) FROM outspoken_signing_keys

-- deliver --
-- The good end of attempts, for all seqs (a JSON array) under one token. A stale token changes nothing. Nothing is returned:
-- for RETURNING every column of each row would be read.
UPDATE outspoken_deliveries
SET state = 'delivered', attempts = attempts + 1, lease_token = NULL, lease_until = NULL, finished_at = :finished_at
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'leased' AND lease_token = :token

-- delivered --
-- Which of those it changed, where it did not change all: the attempt that ended them is not on record yet.
SELECT seq FROM outspoken_deliveries AS deliveries
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'delivered' AND finished_at = :finished_at
  AND NOT EXISTS (SELECT 1 FROM outspoken_attempts AS each
                  WHERE each.seq = deliveries.seq AND each.number = deliveries.attempts + deliveries.lapses)

-- settle --
-- The end of one attempt; one that was not charged leaves its number to no other. A stale token changes nothing.
UPDATE outspoken_deliveries
SET state = :state, lane = 2, due_at = coalesce(:due_at, due_at), attempts = attempts + :charged,
    lapses = lapses + 1 - :charged, lease_token = NULL, lease_until = NULL, finished_at = :finished_at, reason = :reason,
    pointer = :pointer
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
UPDATE outspoken_deliveries SET state = 'pending', lane = 2, lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- give_back --
-- A claim that was never sent goes back as it was.
UPDATE outspoken_deliveries SET state = 'pending', lane = 2, lease_token = NULL, lease_until = NULL
WHERE seq = :seq AND state = 'leased' AND lease_token = :token

-- expire --
-- What has waited too long past its due time for a destination that is left alone. A slice, so that claims go on. Where
-- deliveries may go they are late because no relay ran, and each gets its attempts.
UPDATE outspoken_deliveries AS deliveries SET state = 'dead', reason = 'expired', finished_at = :now
WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, origin, path FROM outspoken_deliveries AS late INDEXED BY outspoken_deliveries_waiting
        WHERE late.state = 'pending' AND lane = 1 AND due_at < :before
        UNION ALL
        SELECT seq, origin, path FROM outspoken_deliveries AS late INDEXED BY outspoken_deliveries_scheduled
        WHERE late.state = 'pending' AND lane = 2 AND due_at < :before) AS late
    WHERE EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = late.origin AND d.path IN ('', late.path)
                     AND held = 1 AND (d.state <> 'active' OR open = 1 OR every IS NOT NULL))
    LIMIT :slice
)
RETURNING stream_id

-- record_success --
-- Origins of which nothing but successes came, each with the largest body that it took: a JSON object. Those that took
-- larger ones before are not written.
INSERT INTO outspoken_destinations (origin, largest_accepted)
SELECT well.key, well.value FROM json_each(:well) AS well WHERE true
ON CONFLICT (origin, path) DO UPDATE SET largest_accepted = excluded.largest_accepted
WHERE coalesce(largest_accepted, -1) < excluded.largest_accepted

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
-- Those behind a dead delivery in a killed stream, a slice of them. Both conditions on state: the first is the one of the
-- partial index deliveries_stream, without which this would read the whole backlog.
UPDATE outspoken_deliveries SET state = 'dead', reason = 'stream_killed', finished_at = :now
WHERE seq IN (SELECT seq FROM outspoken_deliveries AS next INDEXED BY outspoken_deliveries_stream
              WHERE stream_id = :stream_id AND next.state IN ('pending', 'leased') AND next.state = 'pending' LIMIT :slice)

-- heartbeat --
-- This relay is at work; and so are these others, of which so many come before it.
INSERT INTO outspoken_relays (holder, seen_at) VALUES (:holder, :now) ON CONFLICT (holder) DO UPDATE SET seen_at = excluded.seen_at
RETURNING (SELECT count(*) FROM outspoken_relays AS others WHERE others.seen_at > :since AND others.holder <> :holder),
          (SELECT count(*) FROM outspoken_relays AS others WHERE others.seen_at > :since AND others.holder < :holder)

-- relays --
-- The same, for one that said so a moment ago.
SELECT (SELECT count(*) FROM outspoken_relays AS others WHERE others.seen_at > :since AND others.holder <> :holder),
       (SELECT count(*) FROM outspoken_relays AS others WHERE others.seen_at > :since AND others.holder < :holder)

-- forget_relays --
-- Relays that are long gone: each start is another holder.
DELETE FROM outspoken_relays WHERE seen_at < :before

-- leave --
-- A relay that leaves: the others need not wait until it has been silent.
DELETE FROM outspoken_relays WHERE holder = :holder

-- note_stop --
-- The last one has left: operators are told so, and not that it was lost.
INSERT INTO outspoken_audit (at, actor, source, act, detail)
SELECT :now, 'relay', 'relay', 'relay.stop', '{}'
WHERE NOT EXISTS (SELECT 1 FROM outspoken_relays WHERE seen_at > :since)

-- streams_to_tend --
-- How many streams somebody has to look after, whether one of them waits for a holder, and whether some other has come to
-- an end that nobody has written down: its producer or its holder is overdue, or the last of its requests was answered.
SELECT count(*) AS live, max(transport = 'ws' AND holder IS NULL) AS waiting,
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

-- snapshot --
-- The gauges, each from a partial index and never over delivered history (hence INDEXED BY), and in one statement, because
-- each relay asks all the time.
SELECT
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead') AS dead,
    (SELECT created_at FROM outspoken_deliveries WHERE seq = min(
        coalesce((SELECT min(seq) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_ready WHERE state = 'pending' AND lane = 0), 9223372036854775807),
        coalesce((SELECT min(seq) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_held WHERE state = 'pending' AND lane = 1), 9223372036854775807),
        coalesce((SELECT min(seq) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_scheduled WHERE state = 'pending' AND lane = 2), 9223372036854775807),
        coalesce((SELECT min(seq) FROM outspoken_deliveries INDEXED BY outspoken_deliveries_leased WHERE state = 'leased'), 9223372036854775807))) AS oldest_created_at,
    -- One writer at a time: what has a number is committed, and nothing else is under way.
    (SELECT seq FROM sqlite_sequence WHERE name = 'outspoken_deliveries') AS last_seq, 0 AS oldest_transaction, 0 AS next_transaction,
    (SELECT min(created_at) FROM outspoken_signing_keys WHERE retires_at IS NULL) AS key_created_at,
    (SELECT max(at) FROM outspoken_audit WHERE act = 'backup') AS backup_at,
    (SELECT coalesce(max(id), 0) FROM outspoken_audit) AS last_act,
    ({depths}) AS queues,
    (SELECT json_group_object(shown_state, places) FROM ({destination_states})) AS destination_states,
    (SELECT json_group_array(json_array(origin, path, open)) FROM ({left_alone})) AS left_alone,
    (SELECT json_group_array(origin) FROM ({full})) AS full_ones,
    (SELECT json_group_array(json_array(id, at, act, source, done)) FROM ({acts})) AS acts

-- added --
-- What came since the last count: a range of new rows, not of history.
SELECT kind, count(*) FROM outspoken_deliveries WHERE seq > :after AND seq <= :last GROUP BY kind

-- queues --
-- What waits for each origin, lane by lane, and how much of it is due. One pass over the partial indexes of what is pending:
-- of what is ready by owner too, as that index is in their order, and to sort takes as long as to read.
SELECT origin, 0 AS lane, count(*) AS waiting, count(*) FILTER (WHERE due_at <= :now) AS ready, min(due_at) AS oldest_due_at
FROM outspoken_deliveries INDEXED BY outspoken_deliveries_ready WHERE state = 'pending' AND lane = 0 GROUP BY owner, origin
UNION ALL
SELECT origin, 1, count(*), count(*) FILTER (WHERE due_at <= :now), min(due_at)
FROM outspoken_deliveries INDEXED BY outspoken_deliveries_held WHERE state = 'pending' AND lane = 1 GROUP BY origin
UNION ALL
SELECT origin, 2, count(*), count(*) FILTER (WHERE due_at <= :now), min(due_at)
FROM outspoken_deliveries INDEXED BY outspoken_deliveries_scheduled WHERE state = 'pending' AND lane = 2 GROUP BY origin

-- depths --
-- The same folded over all origins, as a JSON array: how much is ready, scheduled and held; since when the oldest of what is
-- ready, and of what is held; and for which :worst most waits. To make objects of thousands of rows would keep the interpreter
-- from everything else.
WITH lanes AS MATERIALIZED ({queues}),
     judged AS MATERIALIZED (
         SELECT waiting, ready, oldest_due_at, CASE WHEN lane = 1 THEN 1 WHEN origin IN ({full}) THEN 1 ELSE EXISTS (
             SELECT 1 FROM outspoken_destinations AS whole INDEXED BY outspoken_destinations_held
             WHERE whole.held = 1 AND whole.path = '' AND whole.origin = lanes.origin
         ) END AS held FROM lanes
     )
SELECT json_array(
    coalesce(sum(ready) FILTER (WHERE NOT held), 0), coalesce(sum(waiting - ready), 0), coalesce(sum(ready) FILTER (WHERE held), 0),
    min(oldest_due_at) FILTER (WHERE ready > 0 AND NOT held), min(oldest_due_at) FILTER (WHERE ready > 0 AND held),
    (SELECT json_group_object(origin, most) FROM (SELECT origin, sum(waiting) AS most FROM lanes GROUP BY origin ORDER BY most DESC LIMIT :worst))
) FROM judged

-- destination_states --
-- How many origins stand how, in the words of relay.policy.breaker.DestinationState: the worst of their own and of their
-- endpoints'. Only what is held is looked at; of all others there are so many as there are rows.
WITH held AS MATERIALIZED (
    SELECT origin, max({state_rank}) AS worst FROM outspoken_destinations WHERE held = 1 GROUP BY origin
), apart AS MATERIALIZED (
    SELECT CASE worst WHEN 7 THEN 'disabled' WHEN 6 THEN 'paused' WHEN 5 THEN 'unreachable' WHEN 4 THEN 'disabled'
                      WHEN 3 THEN 'paused' WHEN 2 THEN 'trickling' ELSE 'slowed' END AS shown_state,
           EXISTS (SELECT 1 FROM outspoken_destinations AS whole WHERE whole.origin = held.origin AND whole.path = '') AS has_row
    FROM held WHERE worst > 0
), others AS MATERIALIZED (
    SELECT (SELECT count(*) FROM outspoken_destinations WHERE path = '') - (SELECT count(*) FROM apart WHERE has_row) AS places
)
SELECT shown_state, count(*) AS places FROM apart GROUP BY shown_state
UNION ALL
SELECT 'delivering', places FROM others WHERE places > 0

-- state_rank --
-- The worse, the higher: of a held destination. What is said or known of the whole covers its endpoints.
CASE WHEN path = '' AND state = 'disabled' THEN 7 WHEN path = '' AND state = 'paused' THEN 6 WHEN path = '' AND open = 1 THEN 5
     WHEN state = 'disabled' THEN 4 WHEN state = 'paused' THEN 3 WHEN open = 1 THEN 2 WHEN rate IS NOT NULL THEN 1 ELSE 0 END

-- left_alone --
-- Destinations that are not called as they would be, and whether that is their breaker's doing.
SELECT origin, path, open FROM outspoken_destinations INDEXED BY outspoken_destinations_held WHERE held = 1

-- full --
-- Origins whose slots are all taken, or promised to what was claimed ahead: whatever else is due there waits.
SELECT origin FROM outspoken_deliveries
WHERE state = 'leased' AND lease_until > :now GROUP BY origin HAVING count(*) >= :slots

-- acts --
-- What operators did lately: `done` grows while a bulk act goes through its slices.
SELECT id, at, act, source, coalesce(detail ->> 'done', 0) AS done FROM outspoken_audit
WHERE id > :after_act AND act IN ('delivery.replay', 'delivery.cancel')

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

-- forget_endpoints --
-- Endpoints that failed long ago, for which nothing waits, and of which nothing else is known: a path that was called once
-- leaves no row.
DELETE FROM outspoken_destinations
WHERE path <> '' AND state = 'active' AND smallest_refused IS NULL AND turn_at IS NULL AND slowed_at < :before
  AND allowed_at < :before AND coalesce(json_extract(starts, '$[#-1]'), 0) < :before
