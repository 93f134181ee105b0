-- Which of these messages may still be written down by this holder, as a JSON array; they are held until that is committed.
SELECT coalesce(json_agg(seq), '[]') FROM (
    SELECT seq FROM deliveries
    WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND state = 'pending'
      AND EXISTS (SELECT 1 FROM streams WHERE streams.id = deliveries.stream_id AND holder = :holder)
    ORDER BY seq FOR UPDATE
) AS standing
