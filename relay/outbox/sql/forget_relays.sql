-- Relays that are long gone: each start is another holder.
DELETE FROM relays WHERE seen_at < :before
