-- Whether a destination may be called.
SELECT state = 'active' AND coalesce(open_until, 0) <= :now FROM destinations WHERE origin = :origin
