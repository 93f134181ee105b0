-- After its body and its attempts, which refer to it.
DELETE FROM deliveries WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled')
