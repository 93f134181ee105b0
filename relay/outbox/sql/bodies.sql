-- The bodies of a claim that are small enough to be held until their turn.
SELECT seq, body FROM bodies WHERE seq IN (SELECT value FROM json_each(:seqs))
