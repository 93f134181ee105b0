INSERT INTO relays (holder, seen_at) VALUES (:holder, :now) ON CONFLICT (holder) DO UPDATE SET seen_at = :now
