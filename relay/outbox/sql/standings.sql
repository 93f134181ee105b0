-- How many destinations stand how: active, paused, disabled, or open (the breaker; it has yet to prove itself).
SELECT CASE WHEN state = 'active' AND open_until IS NOT NULL THEN 'open' ELSE state END AS standing, count(*)
FROM destinations GROUP BY standing
