-- Nobody wants this result any more. One that is on its way just now is not called back.
UPDATE deliveries SET state = 'cancelled', finished_at = :now WHERE id = :id AND state = 'pending'
