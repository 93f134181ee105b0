-- The id of a delivery may have 256 characters.
ALTER TABLE outspoken.deliveries
    DROP CONSTRAINT deliveries_id_check,
    ADD CONSTRAINT deliveries_id_check CHECK (length(id) BETWEEN 1 AND 256);

CREATE OR REPLACE FUNCTION outspoken.flaw_of_id(id TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN coalesce(id, '') !~ '^[ -~]*$' COLLATE "C" OR id ~ '^ | $'
        THEN 'id: expected printable ASCII, without spaces around it: receivers get it as a header'
        WHEN coalesce(length(id), 0) NOT BETWEEN 1 AND 256
        THEN format('id: expected 1 to 256 characters, got %s', coalesce(length(id), 0)) END
$$;

-- Whose they are, and how soon they have to go.
CREATE OR REPLACE VIEW outspoken.deliveries_v2 AS
SELECT it.id, it.origin COLLATE "default" AS destination, it.state, it.reason, it.attempts,
       to_timestamp(it.created_at) AS created_at, to_timestamp(it.due_at) AS due_at,
       to_timestamp(it.finished_at) AS finished_at, stream.key AS stream, it.position, it.idempotency_key,
       ARRAY(SELECT each.tag FROM outspoken.tags AS each WHERE each.seq = it.seq ORDER BY each.tag) AS tags,
       last.status AS last_status, last.outcome AS last_outcome, last.detail AS diagnosis,
       it.owner COLLATE "default" AS owner, it.priority
FROM outspoken.deliveries AS it LEFT JOIN outspoken.streams AS stream ON stream.id = it.stream_id
LEFT JOIN LATERAL (SELECT each.status, each.outcome, each.detail FROM outspoken.attempts AS each
                   WHERE each.seq = it.seq ORDER BY each.number DESC LIMIT 1) AS last ON TRUE;
