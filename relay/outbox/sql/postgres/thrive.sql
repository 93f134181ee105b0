-- Destinations of which nothing but successes came, given as {origin: largest body}. Only what changes is written.
UPDATE destinations
SET failures = 0, open_until = NULL, pause = 0,
    largest_accepted = greatest(largest_accepted, CAST(well.value AS bigint))
FROM json_each_text(CAST(:well AS json)) AS well
WHERE destinations.origin = well.key
  AND (failures > 0 OR open_until IS NOT NULL OR largest_accepted IS NULL
       OR largest_accepted < CAST(well.value AS bigint))
