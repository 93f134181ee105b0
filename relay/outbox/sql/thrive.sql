-- Destinations of which nothing but successes came, each with the largest body that it took: a JSON object by origin. Those
-- that were well already and took larger ones before are not written.
UPDATE destinations
SET failures = 0, open_until = NULL, pause = 0, largest_accepted = max(coalesce(largest_accepted, 0), well.value)
FROM json_each(:well) AS well
WHERE destinations.origin = well.key
  AND (failures > 0 OR open_until IS NOT NULL OR largest_accepted IS NULL OR largest_accepted < well.value)
