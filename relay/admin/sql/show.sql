SELECT deliveries.seq, deliveries.id, deliveries.state, destinations.origin AS destination, deliveries.kind,
       deliveries.created_at, deliveries.due_at, deliveries.finished_at, deliveries.reason, deliveries.body_bytes,
       deliveries.attempts, deliveries.lapses, deliveries.url, deliveries.method, deliveries.content_type,
       deliveries.headers, deliveries.traceparent, deliveries.schedule, deliveries.pointer, deliveries.position,
       streams.key AS stream, streams.transport, streams.reason AS stream_reason, destinations.state AS destination_state, destinations.open_until,
       EXISTS (SELECT 1 FROM bodies WHERE bodies.seq = deliveries.seq) AS body_kept
FROM deliveries
JOIN destinations ON destinations.id = deliveries.destination_id
LEFT JOIN streams ON streams.id = deliveries.stream_id
WHERE deliveries.id = :id
