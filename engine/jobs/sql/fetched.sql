-- The audio behind the request's URL is on the disk now, and need not be fetched again after a kill.
UPDATE jobs SET media = :media, bytes = :bytes, has_audio = 1
WHERE seq = :seq AND state = 'leased' AND lease_token = :token
