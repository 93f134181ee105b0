-- A stream appears with its first delivery, and counts what is added to it. Nothing joins one that has come to its end,
-- and one socket leads to one place.
INSERT INTO streams (key, on_dead, transport, url, headers, producer_until, producer, position)
VALUES (:stream, :on_dead, :transport, :stream_url, :handshake, :live_until, :producer, :count)
ON CONFLICT (key) DO UPDATE
SET position = streams.position + :count, producer_until = greatest(streams.producer_until, :live_until),
    producer = coalesce(:producer, streams.producer)
WHERE streams.state = 'open' AND streams.transport = :transport AND streams.url IS NOT DISTINCT FROM :stream_url
