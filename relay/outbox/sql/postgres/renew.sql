-- What a relay holds and is still at work on.
UPDATE deliveries SET lease_until = :until
WHERE state = 'leased' AND seq = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:seqs AS json)))) AND lease_token LIKE CAST(:holder AS text) || '.%'
