-- Whether a lease would find anything: asked without the write lock, because an idle engine asks every second.
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND due_at <= :now)
    OR EXISTS (SELECT 1 FROM jobs WHERE state = 'leased' AND lease_until <= :now)
