-- Why nothing can be added to a stream.
SELECT state, transport = :transport AND url IS NOT DISTINCT FROM :stream_url AS same FROM streams WHERE key = :stream
