-- What attempts taught of a destination. A 410 disables it: nobody wants anything there any more.
UPDATE destinations
SET failures = :failures, open_until = :open_until, pause = :pause, largest_accepted = :largest_accepted,
    smallest_refused = :smallest_refused, state = CASE WHEN CAST(:gone AS boolean) THEN 'disabled' ELSE state END
WHERE origin = :origin
