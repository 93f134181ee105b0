-- What is known of a destination: its breaker and its body limit.
SELECT failures, open_until, pause, largest_accepted, smallest_refused FROM destinations WHERE origin = :origin
