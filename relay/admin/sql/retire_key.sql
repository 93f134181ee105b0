UPDATE signing_keys SET retires_at = :at WHERE id = :id AND (retires_at IS NULL OR retires_at > :at)
