-- Which of these messages (a JSON array of seqs) still wait in streams of this holder.
SELECT json_group_array(seq) FROM deliveries
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'pending'
  AND EXISTS (SELECT 1 FROM streams WHERE streams.id = deliveries.stream_id AND holder = :holder)
