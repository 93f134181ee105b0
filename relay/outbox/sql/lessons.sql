-- What was learnt of a destination, by whoever is about to learn more. SQLite has one writer at a time.
SELECT failures, open_until, pause, largest_accepted, smallest_refused FROM destinations WHERE origin = :origin
