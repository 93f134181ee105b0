-- What producers do, and what is asked of results. Each block begins with its name. A block of the same name in
-- postgres.sql takes its place on PostgreSQL.

-- add_delivery --
-- One delivery, on the producer's own transaction: due at once, or later. Apart from those of streams: where what is added
-- depends on what is there, SQLite makes a table in between, which takes as long as all else.
INSERT INTO outspoken_deliveries
    (id, owner, origin, path, url, method, kind, priority, content_type, headers, traceparent, body_bytes, created_at,
     due_at, lane, scheduled_from, schedule, idempotency_key, tracked)
VALUES (:id, :owner, :origin, :path, :url, :method, :kind, :priority, :content_type, :headers, :traceparent,
        length(:body), :now, max(:now, coalesce(:due_at, 0.0)), iif(:due_at > :now, 2, 0), max(:now, :due_at), :schedule,
        :idempotency_key, :tracked)
ON CONFLICT DO NOTHING

-- add_to_stream --
-- The same in a stream: due at once, later, or when the one before it has ended. The messages of a WebSocket are never due:
-- whoever holds the socket reads them in order.
INSERT INTO outspoken_deliveries
    (id, owner, origin, path, url, method, kind, priority, content_type, headers, traceparent, body_bytes, created_at,
     due_at, lane, scheduled_from, schedule, stream_id, position, idempotency_key, tracked)
SELECT :id, :owner, :origin, :path, :url, :method, :kind, :priority, :content_type, :headers, :traceparent,
       length(:body), :now, iif(waits, NULL, max(:now, coalesce(:due_at, 0.0))), iif(waits OR :due_at > :now, 2, 0),
       max(:now, :due_at), :schedule, stream_id, position, :idempotency_key, :tracked
FROM (SELECT streams.id AS stream_id, streams.position AS position,
             coalesce(streams.transport = 'ws', 0)
             OR EXISTS (SELECT 1 FROM outspoken_deliveries AS before INDEXED BY outspoken_deliveries_stream
                        WHERE before.stream_id = streams.id AND before.state IN ('pending', 'leased')) AS waits
      FROM (SELECT 1) AS always LEFT JOIN outspoken_streams AS streams ON streams.key = :stream) AS line
WHERE TRUE
ON CONFLICT DO NOTHING

-- add_body --
-- The body, right after its delivery and on the same connection.
INSERT INTO outspoken_bodies (seq, body) SELECT seq, :body FROM outspoken_deliveries WHERE id = :id

-- add_tags --
-- A JSON array of them, behind their delivery.
INSERT INTO outspoken_tags (seq, tag)
SELECT seq, tags.value FROM outspoken_deliveries, json_each(:tags) AS tags WHERE outspoken_deliveries.id = :id

-- taken --
-- Which of a batch's ids (a JSON array) are in the outbox, and which of its idempotency keys.
SELECT id, NULL AS idempotency_key FROM outspoken_deliveries WHERE id IN (SELECT value FROM json_each(:ids))
UNION ALL
SELECT NULL, idempotency_key FROM outspoken_deliveries
WHERE idempotency_key IS NOT NULL AND idempotency_key IN (SELECT value FROM json_each(:keys))

-- add_deliveries --
-- A batch, none of which is in a stream or in the outbox: a JSON array of objects.
INSERT INTO outspoken_deliveries
    (id, owner, origin, path, url, method, kind, priority, content_type, headers, traceparent, body_bytes, created_at,
     due_at, lane, scheduled_from, schedule, idempotency_key, tracked)
SELECT json_extract(new.value, '$.id'), json_extract(new.value, '$.owner'), json_extract(new.value, '$.origin'),
       json_extract(new.value, '$.path'), json_extract(new.value, '$.url'), json_extract(new.value, '$.method'),
       json_extract(new.value, '$.kind'), json_extract(new.value, '$.priority'), json_extract(new.value, '$.content_type'),
       json_extract(new.value, '$.headers'), json_extract(new.value, '$.traceparent'), json_extract(new.value, '$.bytes'),
       :now, max(:now, coalesce(json_extract(new.value, '$.due_at'), 0.0)),
       iif(json_extract(new.value, '$.due_at') > :now, 2, 0), max(:now, json_extract(new.value, '$.due_at')),
       json_extract(new.value, '$.schedule'), json_extract(new.value, '$.idempotency_key'), json_extract(new.value, '$.tracked')
FROM json_each(:batch) AS new

-- add_bodies --
-- Those of a batch, which are one behind the other in :bodies.
INSERT INTO outspoken_bodies (seq, body)
SELECT deliveries.seq, substr(:bodies, json_extract(new.value, '$.start'), json_extract(new.value, '$.bytes'))
FROM json_each(:batch) AS new CROSS JOIN outspoken_deliveries AS deliveries ON deliveries.id = json_extract(new.value, '$.id')

-- tag_deliveries --
-- The tags of a batch: a JSON array of pairs of an id and a tag.
INSERT INTO outspoken_tags (seq, tag)
SELECT deliveries.seq, json_extract(new.value, '$[1]')
FROM json_each(:tags) AS new CROSS JOIN outspoken_deliveries AS deliveries ON deliveries.id = json_extract(new.value, '$[0]')

-- added_before --
-- What was added under an idempotency key, and whether it is another delivery than this one. Its body counts as long as it
-- is kept, and then its size.
SELECT deliveries.id, url <> :url OR method <> :method OR content_type <> :content_type OR body_bytes <> length(:body)
       OR coalesce(bodies.body <> :body, FALSE) AS differs
FROM outspoken_deliveries AS deliveries LEFT JOIN outspoken_bodies AS bodies ON bodies.seq = deliveries.seq
WHERE idempotency_key = :idempotency_key

-- add_stream --
-- A stream appears with its first delivery, and counts what is added to it. Nothing joins one that has come to its end,
-- and one socket leads to one place.
INSERT INTO outspoken_streams (key, on_dead, transport, url, headers, producer_until, producer, position)
VALUES (:stream, :on_dead, :transport, :stream_url, :handshake, :live_until, :producer, :count)
ON CONFLICT (key) DO UPDATE
SET position = position + :count, producer_until = max(coalesce(producer_until, :live_until), coalesce(:live_until, 0)),
    producer = coalesce(:producer, producer)
WHERE state = 'open' AND transport = :transport AND url IS :stream_url

-- leave_stream --
-- What was to be added turned out to be there already: it leaves no gap behind.
UPDATE outspoken_streams SET position = position - 1 WHERE key = :stream

-- stream_end --
-- Why nothing can be added to a stream.
SELECT state, transport = :transport AND url IS :stream_url AS same FROM outspoken_streams WHERE key = :stream

-- end_stream --
-- The last message is in. A stream of which nothing waits any more is closed at once; a WebSocket is closed by its holder.
UPDATE outspoken_streams AS streams
SET producer_until = NULL, state = iif(busy, 'ended', 'closed'), finished_at = iif(busy, NULL, :now)
FROM (SELECT one.id AS it, one.transport = 'ws' OR EXISTS (
          SELECT 1 FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_stream
          WHERE stream_id = one.id AND deliveries.state IN ('pending', 'leased')) AS busy
      FROM outspoken_streams AS one WHERE one.key = :key)
WHERE streams.id = it AND streams.state = 'open'

-- keep_streams --
-- Their producer lives: a JSON array of keys.
UPDATE outspoken_streams SET producer_until = :until
WHERE key IN (SELECT value FROM json_each(:keys)) AND state = 'open' AND producer_until < :until

-- stream_statuses --
-- How some streams stand, given as a JSON array of keys. A socket whose holder is overdue is gone with it, although nobody
-- may have been there yet to write that down.
SELECT key, iif(holder_until <= :now, 'killed', state) AS state, iif(holder_until <= :now, 'relay_gone', reason) AS reason,
       (SELECT count(*) FROM outspoken_deliveries AS deliveries INDEXED BY outspoken_deliveries_stream
        WHERE stream_id = streams.id AND deliveries.state IN ('pending', 'leased')) AS undelivered,
       holder
FROM outspoken_streams AS streams WHERE key IN (SELECT value FROM json_each(:keys))

-- result --
-- The body of one delivery, as every attempt sent it.
SELECT deliveries.content_type, bodies.body FROM outspoken_deliveries AS deliveries
JOIN outspoken_bodies AS bodies ON bodies.seq = deliveries.seq
WHERE deliveries.id = :id

-- secret --
-- What only engine and relay know.
SELECT value FROM outspoken_secrets WHERE name = :name

-- delivery_status --
-- Where one delivery stands, and how its last attempt that is still kept went.
SELECT deliveries.id, deliveries.state, deliveries.attempts, deliveries.due_at, deliveries.finished_at, deliveries.reason,
       last.status, last.outcome, last.detail
FROM outspoken_deliveries AS deliveries
LEFT JOIN outspoken_attempts AS last ON last.seq = deliveries.seq
     AND last.number = (SELECT max(number) FROM outspoken_attempts AS attempts WHERE attempts.seq = deliveries.seq)
WHERE deliveries.id = :id

-- take_ended --
-- The ends of tracked deliveries that nobody has taken note of: the oldest deliveries first.
DELETE FROM outspoken_ends WHERE seq IN (SELECT seq FROM outspoken_ends ORDER BY seq LIMIT :most) RETURNING seq

-- ended_statuses --
-- How these deliveries (a JSON array of seqs) ended, in this order. One that is on its way again was replayed: it will end
-- once more.
SELECT deliveries.id, deliveries.state, deliveries.attempts, deliveries.due_at, deliveries.finished_at, deliveries.reason,
       last.status, last.outcome, last.detail
FROM outspoken_deliveries AS deliveries
LEFT JOIN outspoken_attempts AS last ON last.seq = deliveries.seq
     AND last.number = (SELECT max(number) FROM outspoken_attempts AS attempts WHERE attempts.seq = deliveries.seq)
WHERE deliveries.seq IN (SELECT value FROM json_each(:seqs)) AND deliveries.finished_at IS NOT NULL
ORDER BY deliveries.finished_at, deliveries.seq

-- attempts --
-- What happened to one delivery, as far as it is kept.
SELECT number, started_at, duration, outcome, status, detail
FROM outspoken_attempts WHERE seq = (SELECT seq FROM outspoken_deliveries WHERE id = :id) ORDER BY number

-- cancel --
-- Nobody wants this result any more. One that is on its way just now is not called back.
UPDATE outspoken_deliveries SET state = 'cancelled', finished_at = :now WHERE id = :id AND state = 'pending'

-- go_on --
-- The next one of its stream is due, if that goes one by one and none of it is.
UPDATE outspoken_deliveries SET due_at = :now
WHERE due_at IS NULL AND seq = (
    SELECT next.seq FROM outspoken_deliveries AS gone JOIN outspoken_streams AS streams ON streams.id = gone.stream_id
    CROSS JOIN outspoken_deliveries AS next INDEXED BY outspoken_deliveries_stream
    WHERE gone.id = :id AND streams.transport = 'http'
      AND next.stream_id = streams.id AND next.state IN ('pending', 'leased')
    ORDER BY next.position LIMIT 1)

-- erase --
-- The body of a delivery that nobody will attempt any more.
DELETE FROM outspoken_bodies
WHERE seq = (SELECT seq FROM outspoken_deliveries WHERE id = :id AND state IN ('delivered', 'dead', 'cancelled'))

-- added --
-- All there is, in the order in which it was added.
SELECT one.id, one.url, content.body, one.method, one.kind, one.content_type, one.headers, one.traceparent,
       one.schedule, one.scheduled_from, one.idempotency_key, one.tracked, one.owner, one.priority, one.seq,
       stream.key, stream.on_dead, stream.producer_until, stream.producer
FROM outspoken_deliveries AS one LEFT JOIN outspoken_bodies AS content ON content.seq = one.seq
LEFT JOIN outspoken_streams AS stream ON stream.id = one.stream_id
ORDER BY one.seq

-- added_tags --
-- All tags there are.
SELECT seq, tag FROM outspoken_tags
