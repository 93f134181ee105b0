-- Whether a lease would find anything, and whether a sweep would: asked without the write lock, because an idle engine
-- asks every second.
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND due_at <= :now),
       EXISTS (SELECT 1 FROM jobs WHERE state = 'leased' AND lease_until <= :now)
