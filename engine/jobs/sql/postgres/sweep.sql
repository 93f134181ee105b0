-- A lease whose engine went quiet: the job is free again. It is counted, for the audio may be what ended the engine.
-- Another engine may be sweeping too.
UPDATE jobs SET state = 'queued', lapses = lapses + 1, lease_token = NULL, lease_until = NULL
WHERE seq = ANY(ARRAY(SELECT seq FROM jobs WHERE state = 'leased' AND lease_until <= :now FOR UPDATE SKIP LOCKED))
