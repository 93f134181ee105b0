-- A key that signs nothing any more is a secret kept for no purpose.
DELETE FROM signing_keys WHERE retires_at <= :now
