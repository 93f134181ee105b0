-- The ends of messages, a JSON array of seqs: they were written to their socket, with or without its answer.
UPDATE deliveries SET state = :state, reason = :reason, attempts = attempts + 1, finished_at = :finished_at
WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json))))
