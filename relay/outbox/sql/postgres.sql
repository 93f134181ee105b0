-- What producers do on PostgreSQL: each a call of a function that other languages call as well, see migrations/postgres.
-- What is not here is the same on both databases.

-- try_add --
-- One delivery, or why not. Headers are sent as text: the caller's connection may have a codec of its own for JSON.
SELECT id, refusal, message FROM outspoken_try_add_v2(
    id => :id, url => :url, body => CAST(:body AS BYTEA), method => :method, kind => :kind, content_type => :content_type,
    headers => CAST(CAST(:headers AS TEXT) AS JSON), traceparent => :traceparent, schedule => :schedule,
    stream => :stream, on_dead => :on_dead, live_until => :live_until, producer => :producer, due_at => :due_at,
    idempotency_key => :idempotency_key, tags => CAST(:tags AS TEXT[]), tracked => :tracked,
    owner => :owner, priority => :priority)

-- try_add_many --
-- A batch, a JSON array of objects and their bodies in one, or why not, and at which place.
SELECT ids, refusal, message, place
FROM outspoken_try_add_batch_v1(CAST(CAST(:batch AS TEXT) AS JSON), CAST(:bodies AS BYTEA))

-- cancel --
-- Whether one was pending, and is given up.
SELECT outspoken_cancel_v1(:id)

-- delivery_status --
-- Where one delivery stands, and how its last attempt that is still kept went.
SELECT id, state, attempts, CAST(extract(epoch FROM due_at) AS DOUBLE PRECISION),
       CAST(extract(epoch FROM finished_at) AS DOUBLE PRECISION), reason, last_status, last_outcome, diagnosis
FROM outspoken_deliveries_v2 WHERE id = :id

-- take_ended --
-- How tracked deliveries ended that nobody has taken note of.
SELECT id, state, attempts, CAST(extract(epoch FROM due_at) AS DOUBLE PRECISION),
       CAST(extract(epoch FROM finished_at) AS DOUBLE PRECISION), reason, last_status, last_outcome, diagnosis
FROM outspoken_take_ended_v1(:most) AS id JOIN outspoken_deliveries_v2 USING (id)
ORDER BY finished_at, id

-- try_begin_stream --
-- A stream before anything is in it, or why not.
SELECT refusal, message FROM outspoken_try_begin_stream_v1(
    stream => :stream, url => :url, headers => CAST(CAST(:headers AS TEXT) AS JSON), on_dead => :on_dead,
    live_until => :live_until, producer => :producer)

-- end_stream --
-- The last message is in.
SELECT outspoken_end_stream_v1(:key)

-- keep_streams --
-- The producer of these streams, an array of keys, lives.
SELECT outspoken_keep_streams_v1(:keys, :until)

-- stream_statuses --
-- How some streams stand, an array of keys. There are no holders to be asked after: an overdue one was taken into account.
SELECT stream, state, reason, undelivered, NULL AS holder FROM outspoken_streams_v1 WHERE stream = ANY(:keys)

-- added --
-- All there is, in the order in which it was added, as the transaction that asks would commit it.
SELECT one.id, one.url, content.body, one.method, one.kind, one.content_type, one.headers, one.traceparent,
       one.schedule, one.scheduled_from, one.idempotency_key, one.tracked, one.owner, one.priority, one.seq,
       coalesce(stream.key, joining.stream), coalesce(stream.on_dead, joining.on_dead),
       coalesce(stream.producer_until, joining.live_until), coalesce(stream.producer, joining.producer)
FROM outspoken_deliveries AS one LEFT JOIN outspoken_bodies AS content ON content.seq = one.seq
LEFT JOIN outspoken_streams AS stream ON stream.id = one.stream_id
LEFT JOIN outspoken_joining AS joining ON joining.seq = one.seq AND transaction = pg_current_xact_id_if_assigned()
ORDER BY one.seq
