-- Destinations with what waits for them: one partial index entry for each waiting delivery.
SELECT id, origin, state, failures, open_until, largest_accepted, smallest_refused,
       (SELECT count(*) FROM deliveries
        WHERE deliveries.state = 'pending' AND destination_id = destinations.id) AS waiting,
       (SELECT count(*) FROM deliveries
        WHERE deliveries.state = 'pending' AND destination_id = destinations.id AND due_at <= :now) AS ready,
       (SELECT min(due_at) FROM deliveries
        WHERE deliveries.state = 'pending' AND destination_id = destinations.id) AS oldest_due_at,
       (SELECT count(*) FROM deliveries
        WHERE deliveries.state = 'leased' AND destination_id = destinations.id) AS in_flight
FROM destinations ORDER BY ready DESC, id
