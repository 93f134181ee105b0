-- By the least of each, which an index knows: EXISTS would read the table from its start while most of it is pending, and
-- go on doing so, over all that was delivered since, until the next ANALYZE.
SELECT coalesce((SELECT min(due_at) FROM deliveries WHERE state = 'pending') <= :now, false)
    OR coalesce((SELECT min(lease_until) FROM deliveries WHERE state = 'leased') <= :now, false)
