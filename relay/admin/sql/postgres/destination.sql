-- A destination that is about to be changed: a relay that learns of it, or another operator, waits until it is.
SELECT id, state FROM destinations WHERE origin = :origin FOR NO KEY UPDATE
