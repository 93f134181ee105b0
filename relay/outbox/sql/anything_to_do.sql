SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'pending' AND due_at <= :now)
    OR EXISTS (SELECT 1 FROM deliveries WHERE state = 'leased' AND lease_until <= :now)
