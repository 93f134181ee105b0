-- Which of these destinations (a JSON array of ids) must be left alone now.
SELECT id FROM destinations
WHERE id IN (SELECT value FROM json_each(:ids)) AND (state <> 'active' OR open_until > :now)
