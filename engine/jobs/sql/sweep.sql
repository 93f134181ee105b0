-- A lease whose engine went quiet: the job is free again. No crash is counted, for the audio may be innocent.
UPDATE jobs SET state = 'queued', lease_token = NULL, lease_until = NULL
WHERE state = 'leased' AND lease_until <= :now
