-- Destinations that are not called as they would be: paused, disabled, or their breaker has yet to close.
SELECT id, origin, open_until IS NOT NULL AS open FROM destinations WHERE state <> 'active' OR open_until IS NOT NULL
