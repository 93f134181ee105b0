-- Destinations that take no more for now.
SELECT origin FROM deliveries JOIN destinations ON destinations.id = destination_id
WHERE deliveries.state = 'leased' AND lease_until > :now GROUP BY destinations.id, origin HAVING count(*) >= :slots
