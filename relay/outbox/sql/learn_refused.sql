-- The smallest body that a destination has ever called too large.
UPDATE destinations SET smallest_refused = :bytes
WHERE origin = :origin AND (smallest_refused IS NULL OR smallest_refused > :bytes)
