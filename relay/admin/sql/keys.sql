SELECT signing_keys.id, destinations.origin AS destination, signing_keys.key, signing_keys.created_at,
       signing_keys.retires_at
FROM signing_keys LEFT JOIN destinations ON destinations.id = signing_keys.destination_id
ORDER BY signing_keys.id
