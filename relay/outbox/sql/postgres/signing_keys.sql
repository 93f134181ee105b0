-- What signs for a destination now: its own keys where it has any, those of all others elsewhere.
SELECT key FROM signing_keys
WHERE (retires_at IS NULL OR retires_at > :now)
  AND destination_id IS NOT DISTINCT FROM (
      SELECT max(own.destination_id) FROM signing_keys AS own JOIN destinations AS d ON d.id = own.destination_id
      WHERE d.origin = :origin AND (own.retires_at IS NULL OR own.retires_at > :now))
ORDER BY id
