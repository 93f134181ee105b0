-- Destinations whose slots are all taken, or promised to what was claimed ahead: whatever else is due there waits.
SELECT origin FROM deliveries JOIN destinations ON destinations.id = destination_id
WHERE deliveries.state = 'leased' AND lease_until > :now GROUP BY destination_id HAVING count(*) >= :slots
