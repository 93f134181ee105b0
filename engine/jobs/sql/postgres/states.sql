-- Which of these ids, a JSON array, are jobs or uploads, and whether each still needs its audio.
WITH asked AS (SELECT ARRAY(SELECT json_array_elements_text(CAST(:ids AS json))) AS ids)
SELECT id, state IN ('queued', 'leased') OR audio_kept = 1 FROM jobs, asked WHERE id = ANY(ids)
UNION ALL
SELECT id, true FROM uploads, asked WHERE id = ANY(ids)
