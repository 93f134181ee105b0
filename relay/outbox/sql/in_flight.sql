-- Leases per destination, over every relay that shares the file: the cap counts them all.
SELECT destination_id, count(*) FROM deliveries WHERE state = 'leased' GROUP BY destination_id
