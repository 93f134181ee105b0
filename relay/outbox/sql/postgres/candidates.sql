-- The heads of the queues of some destinations, as JSON: {destination: [seq, ...]}. What another relay is about to claim
-- is passed over; what is found here is held until the claim is committed.
SELECT json_object_agg(wanted.value, coalesce(queue.seqs, '[]'))
FROM json_array_elements_text(CAST(:destinations AS json)) AS wanted
CROSS JOIN LATERAL (
    SELECT json_agg(seq ORDER BY due_at, seq) AS seqs FROM (
        SELECT seq, due_at FROM deliveries
        WHERE state = 'pending' AND destination_id = CAST(wanted.value AS bigint) AND due_at <= :now
        ORDER BY due_at, seq LIMIT :cap FOR UPDATE SKIP LOCKED
    ) AS head
) AS queue
