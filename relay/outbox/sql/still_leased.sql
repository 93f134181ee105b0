-- Which of these leases still stand, as a JSON array of seqs.
SELECT json_group_array(seq) FROM deliveries
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'leased' AND lease_token = :token
