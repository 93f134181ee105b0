-- Which of these ids, a JSON array, are jobs, and whether each still needs its audio.
SELECT id, state IN ('queued', 'leased') FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))
