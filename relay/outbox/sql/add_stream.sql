-- A stream appears with its first delivery, and counts what is added to it. Nothing joins one that has come to its end,
-- and one socket leads to one place.
INSERT INTO streams (key, on_dead, transport, url, headers, producer_until, producer, position)
VALUES (:stream, :on_dead, :transport, :stream_url, :handshake, :live_until, :producer, :count)
ON CONFLICT (key) DO UPDATE
SET position = position + :count, producer_until = max(coalesce(producer_until, :live_until), coalesce(:live_until, 0)),
    producer = coalesce(:producer, producer)
WHERE state = 'open' AND transport = :transport AND url IS :stream_url
