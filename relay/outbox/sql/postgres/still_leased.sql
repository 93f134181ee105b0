-- Which of these are still leased under a token, as a JSON array; they are held until their ends are committed.
SELECT coalesce(json_agg(seq), '[]') FROM (
    SELECT seq FROM deliveries
    WHERE seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND state = 'leased' AND lease_token = :token
    ORDER BY seq FOR UPDATE
) AS standing
