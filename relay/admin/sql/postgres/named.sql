-- The same of deliveries named in a JSON array of ids.
SELECT deliveries.seq, deliveries.id, deliveries.state, deliveries.body_bytes, destinations.origin AS destination,
       destinations.state AS destination_state, streams.state AS stream_state,
       streams.transport AS stream_transport,
       EXISTS (SELECT 1 FROM bodies WHERE bodies.seq = deliveries.seq) AS body
FROM json_array_elements_text(CAST(:ids AS json)) AS wanted
JOIN deliveries ON deliveries.id = wanted.value
JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN streams ON streams.id = deliveries.stream_id
ORDER BY deliveries.seq
