-- The next suspect, if none is being worked on: whoever ends an engine is alone with it, and nobody shares the blame.
-- The least suspicious first, so that those who only stood beside are done before the culprit has its next try.
SELECT seq FROM jobs
WHERE state = 'queued' AND lapses >= 2 AND due_at <= :now
  AND NOT EXISTS (SELECT 1 FROM jobs WHERE state = 'leased' AND lapses >= 2)
ORDER BY lapses, due_at, seq LIMIT 1 FOR UPDATE SKIP LOCKED
