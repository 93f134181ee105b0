-- Of the streams in a JSON array of pairs (id, and the position up to which it was read), those that something was added to.
SELECT held.value ->> 0 FROM json_each(:held) AS held
WHERE EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_stream
              WHERE stream_id = held.value ->> 0 AND position > held.value ->> 1
                AND state IN ('pending', 'leased') AND state = 'pending')
