-- Of the streams in a JSON object (under each id the position up to which it was read), those that something was added to,
-- or that are no longer simply open under this holder.
SELECT streams.id, iif(position > known.value, position, 0) AS grown_to, holder IS :holder AS held,
       state = 'ended' AS ended, producer_until IS NOT NULL AS abandoned
FROM json_each(:known) AS known CROSS JOIN streams ON streams.id = CAST(known.key AS INTEGER)
WHERE position > known.value OR state <> 'open' OR holder IS NOT :holder
