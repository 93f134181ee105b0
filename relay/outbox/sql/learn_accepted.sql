-- The largest body that a destination has ever taken.
UPDATE destinations SET largest_accepted = :bytes
WHERE origin = :origin AND coalesce(largest_accepted, -1) < :bytes
