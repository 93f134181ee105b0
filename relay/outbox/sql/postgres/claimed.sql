-- What a claim brought, in the order in which it was due, with those bodies that are small enough to be held until their
-- turn. A read after the update: RETURNING would copy each row once more.
SELECT seq, id, destination_id, url, method, kind, content_type, headers, traceparent, body_bytes, created_at, due_at,
       attempts, lapses, schedule, stream_id, position, pointer, scheduled_from,
       CASE WHEN body_bytes <= :small THEN (SELECT body FROM bodies WHERE bodies.seq = deliveries.seq) END
FROM deliveries
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))
ORDER BY due_at, seq
