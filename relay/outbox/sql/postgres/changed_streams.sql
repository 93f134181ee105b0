-- What has changed about the streams that a relay holds, given as {id: position up to which it was read}.
SELECT streams.id, CASE WHEN position > CAST(known.value AS bigint) THEN position ELSE 0 END AS grown_to,
       holder IS NOT DISTINCT FROM :holder AS held, state = 'ended' AS ended, producer_until IS NOT NULL AS abandoned
FROM json_each_text(CAST(:known AS json)) AS known JOIN streams ON streams.id = CAST(known.key AS bigint)
WHERE position > CAST(known.value AS bigint) OR state <> 'open' OR holder IS DISTINCT FROM :holder
