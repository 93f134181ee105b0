-- One job, to be deleted by whoever made it.
SELECT seq FROM jobs WHERE id = :id AND key_id = coalesce(:key_id, key_id)
