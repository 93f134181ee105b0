-- Which of these ids, a JSON array, are jobs or uploads, and whether each still needs its audio.
SELECT id, state IN ('queued', 'leased') OR audio_kept FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))
UNION ALL
SELECT id, 1 FROM uploads WHERE id IN (SELECT value FROM json_each(:ids))
