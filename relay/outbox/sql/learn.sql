UPDATE destinations
SET failures = :failures, open_until = :open_until, pause = :pause, largest_accepted = :largest_accepted,
    smallest_refused = :smallest_refused, state = CASE WHEN :gone THEN 'disabled' ELSE state END
WHERE origin = :origin
