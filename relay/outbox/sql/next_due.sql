SELECT min(due_at) FROM deliveries WHERE state = 'pending'
