-- Relays at work, and how many of them come before this one.
SELECT count(*), count(*) FILTER (WHERE holder < :holder) FROM relays WHERE seen_at > :since
