SELECT count(*) FROM relays WHERE seen_at > :since
