-- What was learnt of a destination, by whoever is about to learn more: others wait until that is committed.
SELECT failures, open_until, pause, largest_accepted, smallest_refused FROM destinations WHERE origin = :origin
FOR NO KEY UPDATE
