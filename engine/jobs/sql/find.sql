-- One job with all that is known of it, for whoever made it; :key_id NULL is whoever asks where no key is required.
SELECT jobs.seq, jobs.request, jobs.media, jobs.state, jobs.created_at, jobs.started_at, jobs.finished_at, jobs.duration,
       results.result
FROM jobs LEFT JOIN results ON results.seq = jobs.seq
WHERE jobs.id = :id AND jobs.key_id = coalesce(:key_id, jobs.key_id)
