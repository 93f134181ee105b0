SELECT largest_accepted, smallest_refused FROM destinations WHERE origin = :origin
