SELECT deliveries.content_type, bodies.body FROM deliveries JOIN bodies ON bodies.seq = deliveries.seq
WHERE deliveries.id = :id
