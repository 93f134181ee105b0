-- Which of these destinations (a JSON array of ids) must be left alone now.
SELECT id FROM destinations
WHERE id = ANY(ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)))) AND (state <> 'active' OR open_until > :now)
