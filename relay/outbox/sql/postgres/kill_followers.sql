-- Those behind a dead delivery in a killed stream. Both conditions on state: the first is the one of the partial index
-- deliveries_stream, without which this would read the whole backlog.
UPDATE deliveries SET state = 'dead', reason = 'stream_killed', finished_at = :now
WHERE stream_id = :stream_id AND state IN ('pending', 'leased') AND state = 'pending'
