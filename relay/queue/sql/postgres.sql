-- Where PostgreSQL's words are not SQLite's: those of sqlite.sql, block by block. What is not here is the same on both.

-- anything_to_do --
-- By the least of each, which an index knows: EXISTS would read the table from its start while most of it is pending, and
-- go on doing so, over all that was delivered since, until the next ANALYZE.
SELECT (SELECT min(owner) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0) IS NOT NULL AS ready,
       (SELECT min(due_at) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2) AS due_at,
       (SELECT min(turn_at) FROM outspoken_destinations WHERE turn_at IS NOT NULL) AS turn_at,
       (SELECT min(lease_until) FROM outspoken_deliveries WHERE state = 'leased') AS lease_until

-- sweep --
-- Leases that nobody renewed are free again. Another relay may be sweeping too.
UPDATE outspoken_deliveries SET state = 'pending', lane = 2, lease_token = NULL, lease_until = NULL, lapses = lapses + 1
WHERE seq = ANY(ARRAY(SELECT seq FROM outspoken_deliveries WHERE state = 'leased' AND lease_until <= :now FOR UPDATE SKIP LOCKED))

-- fallen_due --
-- What was scheduled and has become due. What another relay has in hand is left to it.
SELECT coalesce(json_agg(json_build_array(
           seq, owner, origin, path,
           EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = due.origin AND d.path = '' AND d.held = 1),
           EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = due.origin AND d.path = due.path AND d.held = 1))), '[]')
FROM (SELECT seq, owner, origin, path FROM outspoken_deliveries
      WHERE state = 'pending' AND lane = 2 AND due_at <= :now ORDER BY due_at LIMIT :slice FOR UPDATE SKIP LOCKED) AS due

-- set_lane --
-- Some that are pending, a JSON array of seqs, stand in another lane from now on.
UPDATE outspoken_deliveries SET lane = CAST(:lane AS integer)
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND state = 'pending'

-- arm --
-- Something waits for these, a JSON array of origin, path, owner and whether it was tried. In one order, always, so that two
-- relays do not wait for each other.
INSERT INTO outspoken_destinations (origin, path, owner, tried, held, silent, turn_at)
SELECT value ->> 0, value ->> 1, value ->> 2, CAST(value ->> 3 AS integer), 1 - CAST(value ->> 3 AS integer),
       1 - CAST(value ->> 3 AS integer), CAST(:now AS double precision)
FROM json_array_elements(CAST(:keys AS json)) AS it (value) ORDER BY 1, 2
ON CONFLICT (origin, path) DO UPDATE
SET owner = excluded.owner,
    turn_at = coalesce(outspoken_destinations.turn_at, greatest(outspoken_destinations.allowed_at, excluded.turn_at))

-- few_ready --
-- What is ready, as a few rows. What another relay is about to claim is passed over; what is found here is held until the
-- claim is committed.
SELECT seq, ready.owner, ready.origin, ready.path, whole.origin IS NOT NULL, coalesce(whole.held, 0) + coalesce(part.held, 0) > 0
FROM (SELECT seq, owner, origin, path FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
      ORDER BY owner, origin, path, priority DESC, due_at, seq LIMIT :most FOR UPDATE SKIP LOCKED) AS ready
LEFT JOIN outspoken_destinations AS whole ON whole.origin = ready.origin AND whole.path = ''
LEFT JOIN outspoken_destinations AS part ON part.origin = ready.origin AND part.path = ready.path

-- groups --
-- All endpoints for which something is ready, by owner, origin and path, and of each whether its origin is known, whether
-- that is held, and whether it is held itself. One seek each.
WITH RECURSIVE ready AS (
    (SELECT owner, origin, path FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0
     ORDER BY owner, origin, path LIMIT 1)
    UNION ALL
    SELECT next.owner, next.origin, next.path FROM ready CROSS JOIN LATERAL (
        SELECT owner, origin, path FROM outspoken_deliveries
        WHERE state = 'pending' AND lane = 0 AND (owner, origin, path) > (ready.owner, ready.origin, ready.path)
        ORDER BY owner, origin, path LIMIT 1
    ) AS next
)
SELECT coalesce(json_agg(json_build_array(
           pairs.owner, pairs.origin, pairs.path, whole.origin IS NOT NULL, coalesce(whole.held, 0), coalesce(part.held, 0))), '[]')
FROM (SELECT owner, origin, path FROM ready LIMIT :most) AS pairs
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
SELECT coalesce(json_agg(owner), '[]') FROM (SELECT owner FROM ready WHERE owner IS NOT NULL LIMIT :room) AS these

-- origins --
-- To which origins something of some owners is ready, from one on: one seek each, however much waits.
SELECT coalesce(json_agg(json_build_array(wanted.value ->> 0, found.origin)), '[]')
FROM json_array_elements(CAST(:owners AS json)) AS wanted (value)
CROSS JOIN LATERAL (
    WITH RECURSIVE ready (origin) AS (
        SELECT min(origin) FROM outspoken_deliveries
        WHERE state = 'pending' AND lane = 0 AND owner = wanted.value ->> 0 AND origin >= wanted.value ->> 1
        UNION ALL
        SELECT (SELECT min(origin) FROM outspoken_deliveries
                WHERE state = 'pending' AND lane = 0 AND owner = wanted.value ->> 0 AND origin > ready.origin)
        FROM ready WHERE ready.origin IS NOT NULL
    )
    SELECT origin FROM ready WHERE origin IS NOT NULL LIMIT :room
) AS found

-- endpoints --
-- The same one step further, and of each whether its origin is known, whether that is held, and whether it is held itself.
SELECT coalesce(json_agg(json_build_array(
           pairs.owner, pairs.origin, pairs.path, whole.origin IS NOT NULL, coalesce(whole.held, 0), coalesce(part.held, 0))), '[]')
FROM (
    SELECT wanted.value ->> 0 AS owner, wanted.value ->> 1 AS origin, found.path
    FROM json_array_elements(CAST(:origins AS json)) AS wanted (value)
    CROSS JOIN LATERAL (
        WITH RECURSIVE ready (path) AS (
            SELECT min(path) FROM outspoken_deliveries
            WHERE state = 'pending' AND lane = 0 AND owner = wanted.value ->> 0 AND origin = wanted.value ->> 1
              AND path >= wanted.value ->> 2
            UNION ALL
            SELECT (SELECT min(path) FROM outspoken_deliveries
                    WHERE state = 'pending' AND lane = 0 AND owner = wanted.value ->> 0 AND origin = wanted.value ->> 1
                      AND path > ready.path)
            FROM ready WHERE ready.path IS NOT NULL
        )
        SELECT path FROM ready WHERE path IS NOT NULL LIMIT :room
    ) AS found
) AS pairs
LEFT JOIN outspoken_destinations AS whole ON whole.origin = pairs.origin AND whole.path = ''
LEFT JOIN outspoken_destinations AS part ON part.origin = pairs.origin AND part.path = pairs.path

-- arrived --
-- What came since a seq, the newest :room of it: the newest seq, and the owners and the origins of what is ready. What is
-- committed later than its neighbours may be missed, and is found in its turn.
SELECT json_build_array(coalesce(max(seq), 0), coalesce(
           json_agg(json_build_array(owner, origin)) FILTER (WHERE state = 'pending' AND lane = 0), '[]'))
FROM (SELECT seq, owner, origin, state, lane FROM outspoken_deliveries WHERE seq > :after ORDER BY seq DESC LIMIT :room) AS newest

-- heads --
-- The first :cap of each group in a JSON array of an owner, an origin and a path: an array of arrays of seqs. What another
-- relay is about to claim is passed over; what is found here is held until the claim is committed.
SELECT coalesce(json_agg(coalesce(queue.seqs, '[]') ORDER BY wanted.place), '[]')
FROM json_array_elements(CAST(:groups AS json)) WITH ORDINALITY AS wanted (value, place)
CROSS JOIN LATERAL (
    SELECT json_agg(seq ORDER BY priority DESC, due_at, seq) AS seqs FROM (
        SELECT seq, priority, due_at FROM outspoken_deliveries
        WHERE state = 'pending' AND lane = 0 AND owner = wanted.value ->> 0 AND origin = wanted.value ->> 1
          AND path = wanted.value ->> 2
        ORDER BY priority DESC, due_at, seq LIMIT :cap FOR UPDATE SKIP LOCKED
    ) AS head
) AS queue

-- turns --
-- Held destinations of one kind whose turn it is, from one owner on, as a JSON array of owner, origin and path.
WITH RECURSIVE waiting (owner) AS (
    SELECT min(owner) FROM outspoken_destinations
    WHERE turn_at IS NOT NULL AND silent = CAST(:silent AS integer) AND tried = CAST(:tried AS integer) AND owner >= :after
    UNION ALL
    SELECT (SELECT min(owner) FROM outspoken_destinations
            WHERE turn_at IS NOT NULL AND silent = CAST(:silent AS integer) AND tried = CAST(:tried AS integer)
              AND owner > waiting.owner)
    FROM waiting WHERE waiting.owner IS NOT NULL
)
SELECT coalesce(json_agg(json_build_array(owner, origin, path)), '[]') FROM (
    SELECT waiting.owner, found.origin, found.path FROM waiting CROSS JOIN LATERAL (
        SELECT origin, path FROM outspoken_destinations AS d
        WHERE d.silent = CAST(:silent AS integer) AND d.tried = CAST(:tried AS integer) AND d.owner = waiting.owner
          AND d.turn_at <= :now ORDER BY d.turn_at LIMIT :each
    ) AS found
    WHERE waiting.owner IS NOT NULL LIMIT :room
) AS these

-- healths --
-- What is known of some destinations, and how many attempts are under way to each. They are held until the claim is
-- committed; what another relay holds is left to it.
SELECT d.origin, d.path, d.state, d.held, d.tried, d.owner, d.silent, d.failures, d.open, d.starts, d.rate, d.every, d.slowed_at, d.allowed_at,
       CASE d.path WHEN '' THEN (SELECT count(*) FROM outspoken_deliveries AS deliveries
                                 WHERE deliveries.state = 'leased' AND deliveries.origin = d.origin)
       ELSE (SELECT count(*) FROM outspoken_deliveries AS deliveries
             WHERE deliveries.state = 'leased' AND deliveries.origin = d.origin AND deliveries.path = d.path) END AS in_flight
FROM outspoken_destinations AS d
WHERE (d.origin, d.path) IN (SELECT value ->> 0, value ->> 1 FROM json_array_elements(CAST(:keys AS json)) AS it (value))
ORDER BY d.origin, d.path FOR NO KEY UPDATE OF d SKIP LOCKED

-- held_endpoints --
-- Of which endpoints of some origins something is held because of the origin, and not because of themselves.
SELECT coalesce(json_agg(json_build_array(origin, path)), '[]') FROM (
    SELECT wanted.value ->> 0 AS origin, found.path
    FROM json_array_elements(CAST(:origins AS json)) AS wanted (value)
    CROSS JOIN LATERAL (
        WITH RECURSIVE waiting (path) AS (
            SELECT min(path) FROM outspoken_deliveries
            WHERE state = 'pending' AND lane = 1 AND origin = wanted.value ->> 0 AND path >= wanted.value ->> 1
            UNION ALL
            SELECT (SELECT min(path) FROM outspoken_deliveries
                    WHERE state = 'pending' AND lane = 1 AND origin = wanted.value ->> 0 AND path > waiting.path)
            FROM waiting WHERE waiting.path IS NOT NULL
        )
        SELECT path FROM waiting WHERE path IS NOT NULL LIMIT :room
    ) AS found
) AS pairs
WHERE NOT EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = pairs.origin AND d.path = pairs.path AND d.held = 1)

-- held_heads --
-- The first :cap that are held of each endpoint in a JSON array of pairs: an array of arrays, of a seq, its due time and
-- its URL.
SELECT coalesce(json_agg(coalesce(queue.heads, '[]') ORDER BY wanted.place), '[]')
FROM json_array_elements(CAST(:keys AS json)) WITH ORDINALITY AS wanted (value, place)
CROSS JOIN LATERAL (
    SELECT json_agg(json_build_array(seq, due_at, url) ORDER BY priority DESC, due_at, seq) AS heads FROM (
        SELECT seq, priority, due_at, url FROM outspoken_deliveries
        WHERE state = 'pending' AND lane = 1 AND origin = wanted.value ->> 0 AND path = wanted.value ->> 1
        ORDER BY priority DESC, due_at, seq LIMIT :cap FOR UPDATE SKIP LOCKED
    ) AS head
) AS queue

-- noteworthy --
-- Of some destinations, a JSON array of origin, path and the largest body that they took just now, those of which there is
-- something to write although all went well: an array of origin, path, and whether more is to be written than of a success.
SELECT coalesce(json_agg(json_build_array(
           place.origin, place.path, coalesce(d.held = 1 OR d.failures > 0 OR place.path <> '', false))), '[]')
FROM (SELECT value ->> 0 AS origin, value ->> 1 AS path, CAST(value ->> 2 AS bigint) AS size
      FROM json_array_elements(CAST(:keys AS json)) AS it (value)) AS place
LEFT JOIN outspoken_destinations AS d ON d.origin = place.origin AND d.path = place.path
WHERE d.held = 1 OR d.failures > 0 OR coalesce(d.largest_accepted, CASE place.path WHEN '' THEN -1 ELSE 0 END) < place.size
      AND (d.origin IS NOT NULL OR place.path = '')

-- lock_health --
-- What is known of some destinations, read by whoever is about to write more: others wait until that is committed. In one
-- order, always, so that two relays do not wait for each other.
SELECT origin, path, state, held, turn_at, silent, failures, open, starts, rate, every, slowed_at, allowed_at,
       largest_accepted, smallest_refused
FROM outspoken_destinations
WHERE (origin, path) IN (SELECT value ->> 0, value ->> 1 FROM json_array_elements(CAST(:keys AS json)) AS it (value))
ORDER BY origin, path FOR NO KEY UPDATE

-- record_health --
-- What the attempts at a destination say of it. Where it is held, or was until now, it is asked what it allows.
INSERT INTO outspoken_destinations AS it
    (origin, path, held, silent, failures, open, starts, rate, every, slowed_at, allowed_at, owner, turn_at, largest_accepted,
     smallest_refused)
VALUES (:origin, :path, :held, :silent, :failures, :open, :starts, :rate, :every, :slowed_at, :allowed_at, :owner, :turn_at,
        :largest_accepted, :smallest_refused)
ON CONFLICT (origin, path) DO UPDATE
SET held = CASE WHEN it.state = 'active' THEN excluded.held ELSE 1 END, tried = 1, silent = excluded.silent, failures = excluded.failures,
    open = excluded.open, starts = excluded.starts, rate = excluded.rate, every = excluded.every,
    slowed_at = excluded.slowed_at, allowed_at = excluded.allowed_at, owner = excluded.owner,
    turn_at = coalesce(excluded.turn_at, it.turn_at), largest_accepted = excluded.largest_accepted,
    smallest_refused = excluded.smallest_refused

-- lease --
-- Claim the chosen deliveries, given as a JSON array of seqs.
UPDATE outspoken_deliveries SET state = 'leased', lease_token = :token, lease_until = :until
WHERE state = 'pending' AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))

-- claimed --
-- What a claim brought, in the order in which it was due, with those bodies that are small enough to be held until their
-- turn; not what was chosen and could not be leased. A read after the update: RETURNING would copy each row once more.
SELECT seq, id, origin, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
       attempts, lapses, schedule, stream_id, position, pointer, scheduled_from, path, owner, lane,
       EXISTS (SELECT 1 FROM outspoken_gone_urls AS gone WHERE gone.origin = deliveries.origin AND gone.path = deliveries.path) AS gone,
       CASE WHEN body_bytes <= :small THEN (SELECT body FROM outspoken_bodies AS bodies WHERE bodies.seq = deliveries.seq) END
FROM outspoken_deliveries AS deliveries
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))
  AND lease_token = :token
ORDER BY due_at, seq

-- claim_ready --
-- Claim so many of each group in a JSON array of an owner, an origin, a path and a number, but of those that are held: a
-- whole claim in one round trip, where nothing is to be put into another lane. Brings what `claimed` does; and in the first
-- row, which may have nothing else, what was seen when it began: what there is to do, all groups, those that are blocked of
-- some endpoints, and the version of the keys. A claim waits for no flush: a power cut undoes it.
WITH wanted AS (
    SELECT value ->> 0 AS owner, value ->> 1 AS origin, value ->> 2 AS path, CAST(value ->> 3 AS integer) AS most
    FROM json_array_elements(CAST(:wanted AS json)) AS it (value)
), head AS (
    SELECT queue.ctid FROM wanted CROSS JOIN LATERAL (
        SELECT ctid FROM outspoken_deliveries
        WHERE state = 'pending' AND lane = 0 AND owner = wanted.owner AND origin = wanted.origin AND path = wanted.path
        ORDER BY priority DESC, due_at, seq LIMIT wanted.most FOR UPDATE SKIP LOCKED
    ) AS queue
    WHERE NOT EXISTS (SELECT 1 FROM outspoken_destinations AS d
                      WHERE d.origin = wanted.origin AND d.path IN ('', wanted.path) AND d.held = 1)
), leased AS (
    UPDATE outspoken_deliveries SET state = 'leased', lease_token = :token, lease_until = :until
    WHERE state = 'pending' AND ctid = ANY(ARRAY(SELECT ctid FROM head))
    RETURNING seq, id, origin, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
              attempts, lapses, schedule, stream_id, position, pointer, scheduled_from, path, owner, lane
), seen AS (
    SELECT json_build_array(
        (SELECT json_build_array(ready, due_at, turn_at, lease_until) FROM ({anything_to_do}) AS it),
        ({groups}),
        (SELECT coalesce(json_agg(json_build_array(origin, path, stopped)), '[]') FROM ({blocked}) AS it (origin, path, stopped)),
        (SELECT json_build_array(newest, all_of_them, signing) FROM ({keys_version}) AS it (newest, all_of_them, signing))) AS it,
        set_config('synchronous_commit', 'off', true)
)
SELECT leased.*,
       EXISTS (SELECT 1 FROM outspoken_gone_urls AS gone WHERE gone.origin = leased.origin AND gone.path = leased.path) AS gone,
       CASE WHEN body_bytes <= :small THEN (SELECT body FROM outspoken_bodies AS bodies WHERE bodies.seq = leased.seq) END,
       CASE row_number() OVER (ORDER BY due_at, seq) WHEN 1 THEN seen.it END
FROM seen LEFT JOIN leased ON true
ORDER BY due_at, seq

-- blocked --
-- Of some endpoints, a JSON array of pairs, those that are held, themselves or with their origin; and whether an operator
-- said so.
SELECT wanted.value ->> 0, wanted.value ->> 1, bool_or(d.state <> 'active')
FROM json_array_elements(CAST(:keys AS json)) AS wanted (value)
JOIN outspoken_destinations AS d ON d.origin = wanted.value ->> 0 AND d.path IN ('', wanted.value ->> 1) AND d.held = 1
GROUP BY 1, 2

-- keys_version --
-- What changes whenever what signs does.
SELECT max(id), count(*), count(*) FILTER (WHERE retires_at IS NULL OR retires_at > :now) FROM outspoken_signing_keys

-- deliver_plain --
-- The good end of attempts, each by its seq and its token, with what happened in them: a whole settlement in one round trip,
-- where all there is to say of their destinations is known. Where there is more (`noteworthy`) nothing is changed, and that
-- is answered; beside it the seqs that were changed.
WITH unusual AS (SELECT CAST(({noteworthy}) AS text) AS keys), delivered AS (
    UPDATE outspoken_deliveries AS it
    SET state = 'delivered', attempts = attempts + 1, lease_token = NULL, lease_until = NULL, finished_at = :finished_at
    FROM unnest(CAST(:seq AS bigint[]), string_to_array(:token, E'\n')) AS ended (seq, token)
    WHERE it.seq = ended.seq AND it.state = 'leased' AND it.lease_token = ended.token
      AND (SELECT keys FROM unusual) = '[]'
    RETURNING it.seq
), recorded AS ({record_attempt} WHERE seq IN (SELECT seq FROM delivered))
SELECT keys, ARRAY(SELECT seq FROM delivered) FROM unusual

-- settle_all --
-- The ends of attempts, good or not, each by its seq and its token, with what happened in them: `deliver`, `settle` and
-- `record_attempt` in one round trip. Brings the seqs whose lease still stood.
WITH settled AS (
    UPDATE outspoken_deliveries AS it
    SET state = ended.state, lane = CASE ended.state WHEN 'delivered' THEN it.lane ELSE 2 END,
        due_at = coalesce(ended.due_at, it.due_at), attempts = it.attempts + ended.charged,
        lapses = it.lapses + 1 - ended.charged, lease_token = NULL, lease_until = NULL, finished_at = ended.finished_at,
        reason = ended.reason, pointer = ended.pointer
    FROM unnest(CAST(:seq AS bigint[]), string_to_array(:token, E'\n'), CAST(:state AS text[]),
                CAST(:due_at AS double precision[]), CAST(:charged AS integer[]), CAST(:pointer AS integer[]),
                CAST(:finished_at AS double precision[]), CAST(:reason AS text[]))
         AS ended (seq, token, state, due_at, charged, pointer, finished_at, reason)
    WHERE it.seq = ended.seq AND it.state = 'leased' AND it.lease_token = ended.token
    RETURNING it.seq
), recorded AS ({record_attempt} WHERE seq IN (SELECT seq FROM settled))
SELECT seq FROM settled

-- record_attempt --
-- What happened in some attempts, column by column. Texts without an end of line in them come in lines: a driver looks at each
-- element of an array several times.
INSERT INTO outspoken_attempts
    (seq, number, started_at, lag, duration, outcome, status, peer, detail, timing, request_headers, answer_headers,
     excerpt)
SELECT seq, number, started_at, lag, duration, outcome, status, peer, detail, CAST(timing AS json),
       CAST(request_headers AS json), CAST(answer_headers AS json), excerpt
FROM unnest(CAST(:seq AS bigint[]), CAST(:number AS integer[]), CAST(:started_at AS double precision[]),
            CAST(:lag AS double precision[]), CAST(:duration AS double precision[]), string_to_array(:outcome, E'\n'),
            CAST(:status AS integer[]), string_to_array(:peer, E'\n', ''), CAST(:detail AS text[]),
            string_to_array(:timing, E'\n'), string_to_array(:request_headers, E'\n'),
            string_to_array(:answer_headers, E'\n'), CAST(:excerpt AS bytea[]))
     AS it (seq, number, started_at, lag, duration, outcome, status, peer, detail, timing, request_headers, answer_headers,
            excerpt)

-- renew --
-- What a relay holds and is still at work on.
UPDATE outspoken_deliveries SET lease_until = :until
WHERE state = 'leased' AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND lease_token LIKE CAST(:holder AS text) || '.%'

-- expire --
-- What has been due for too long where nobody may call; what another has in hand is left to the next slice.
UPDATE outspoken_deliveries AS deliveries SET state = 'dead', reason = 'expired', finished_at = :now
WHERE seq = ANY(ARRAY(
    SELECT seq FROM outspoken_deliveries AS late
    WHERE seq = ANY(ARRAY(
        SELECT late.seq FROM (
            SELECT seq, origin, path FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1 AND due_at < :before
            UNION ALL
            SELECT seq, origin, path FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2 AND due_at < :before) AS late
        WHERE EXISTS (SELECT 1 FROM outspoken_destinations AS d WHERE d.origin = late.origin AND d.path IN ('', late.path)
                         AND held = 1 AND (d.state <> 'active' OR open = 1 OR every IS NOT NULL))
        LIMIT :slice))
      AND state = 'pending'
    FOR UPDATE SKIP LOCKED
))
RETURNING stream_id

-- record_success --
-- Origins of which nothing but successes came, each with the largest body that it took: a JSON object. Only what changes is
-- written.
INSERT INTO outspoken_destinations AS it (origin, largest_accepted)
SELECT well.key, CAST(well.value AS bigint) FROM json_each_text(CAST(:well AS json)) AS well ORDER BY 1
ON CONFLICT (origin, path) DO UPDATE SET largest_accepted = excluded.largest_accepted
WHERE coalesce(it.largest_accepted, -1) < excluded.largest_accepted

-- lock_stream --
-- Nothing joins a stream while one of its deliveries ends: neither would see the other, and the next would never be due.
SELECT id FROM outspoken_streams WHERE id = :stream_id FOR NO KEY UPDATE

-- kill_followers --
-- Those behind a dead delivery in a killed stream. Both conditions on state: the first is the one of the partial index
-- deliveries_stream, without which this would read the whole backlog.
UPDATE outspoken_deliveries SET state = 'dead', reason = 'stream_killed', finished_at = :now
WHERE stream_id = :stream_id AND state IN ('pending', 'leased') AND state = 'pending'

-- streams_to_tend --
-- How many streams somebody has to look after, whether there is one to hold, and one to end.
SELECT count(*) AS live, coalesce(bool_or(transport = 'ws' AND holder IS NULL), false) AS waiting,
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
-- The gauges. Each relay asks for them all the time.
SELECT
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'leased') AS in_flight,
    (SELECT count(*) FROM outspoken_deliveries WHERE state = 'dead') AS dead,
    (SELECT created_at FROM outspoken_deliveries WHERE seq = least(
        (SELECT min(seq) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0),
        (SELECT min(seq) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1),
        (SELECT min(seq) FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2),
        (SELECT min(seq) FROM outspoken_deliveries WHERE state = 'leased'))) AS oldest_created_at,
    -- Numbers are given out before the commit: one below the last may be under way still.
    (SELECT max(seq) FROM outspoken_deliveries) AS last_seq,
    CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS oldest_transaction,
    CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS next_transaction,
    (SELECT min(created_at) FROM outspoken_signing_keys WHERE retires_at IS NULL) AS key_created_at,
    (SELECT max(at) FROM outspoken_audit WHERE act = 'backup') AS backup_at,
    (SELECT coalesce(max(id), 0) FROM outspoken_audit) AS last_act,
    ({depths}) AS queues,
    (SELECT coalesce(json_object_agg(shown_state, places), '{}') FROM ({destination_states}) AS it) AS destination_states,
    (SELECT coalesce(json_agg(json_build_array(origin, path, open)), '[]') FROM ({left_alone}) AS it) AS left_alone,
    (SELECT coalesce(json_agg(origin), '[]') FROM ({full}) AS it) AS full_ones,
    (SELECT coalesce(json_agg(json_build_array(id, at, act, source, done)), '[]') FROM ({acts}) AS it) AS acts

-- queues --
-- What waits for each origin, lane by lane, and how much of it is due.
SELECT origin, 0 AS lane, count(*) AS waiting, count(*) FILTER (WHERE due_at <= :now) AS ready, min(due_at) AS oldest_due_at
FROM outspoken_deliveries WHERE state = 'pending' AND lane = 0 GROUP BY origin
UNION ALL
SELECT origin, 1, count(*), count(*) FILTER (WHERE due_at <= :now), min(due_at)
FROM outspoken_deliveries WHERE state = 'pending' AND lane = 1 GROUP BY origin
UNION ALL
SELECT origin, 2, count(*), count(*) FILTER (WHERE due_at <= :now), min(due_at)
FROM outspoken_deliveries WHERE state = 'pending' AND lane = 2 GROUP BY origin

-- depths --
-- The same folded over all origins, as a JSON array: how much is ready, scheduled and held; since when the oldest of what is
-- ready, and of what is held; and for which :worst most waits. To make objects of thousands of rows would keep the interpreter
-- from everything else.
WITH lanes AS MATERIALIZED ({queues}),
     judged AS (
         SELECT waiting, ready, oldest_due_at, lane = 1 OR origin IN (
             {full} UNION SELECT origin FROM outspoken_destinations WHERE held = 1 AND path = ''
         ) AS held FROM lanes
     )
SELECT json_build_array(
    coalesce(sum(ready) FILTER (WHERE NOT held), 0), coalesce(sum(waiting - ready), 0), coalesce(sum(ready) FILTER (WHERE held), 0),
    min(oldest_due_at) FILTER (WHERE ready > 0 AND NOT held), min(oldest_due_at) FILTER (WHERE ready > 0 AND held),
    (SELECT coalesce(json_object_agg(origin, most), '{}') FROM (SELECT origin, sum(waiting) AS most FROM lanes GROUP BY origin ORDER BY most DESC LIMIT :worst) AS it)
) FROM judged

-- left_alone --
-- Destinations that are not called as they would be, and whether that is their breaker's doing.
SELECT origin, path, open FROM outspoken_destinations WHERE held = 1

-- full --
-- Origins that take no more for now.
SELECT origin FROM outspoken_deliveries
WHERE state = 'leased' AND lease_until > :now GROUP BY origin HAVING count(*) >= :slots

-- acts --
-- What operators did to many deliveries at once, and how far they are: the line grows while they are at it.
SELECT id, at, act, source, CAST(coalesce(detail ->> 'done', '0') AS bigint) AS done FROM outspoken_audit
WHERE id > :after_act AND act IN ('delivery.replay', 'delivery.cancel')

-- forget_body --
-- Its delivery is held until that is committed: what an operator replays meanwhile keeps its body, and what is forgotten
-- is not replayed.
DELETE FROM outspoken_bodies WHERE seq = (
    SELECT seq FROM outspoken_deliveries WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled') FOR UPDATE
)

-- forget_endpoints --
-- Endpoints that failed long ago, for which nothing waits, and of which nothing else is known.
DELETE FROM outspoken_destinations
WHERE path <> '' AND state = 'active' AND smallest_refused IS NULL AND turn_at IS NULL AND slowed_at < :before
  AND allowed_at < :before AND coalesce(CAST(CAST(starts AS json) ->> -1 AS double precision), 0) < :before
