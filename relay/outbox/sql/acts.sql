-- What operators did lately: `done` grows while a bulk act goes through its slices.
SELECT id, at, act, source, coalesce(detail ->> 'done', 0) AS done FROM audit
WHERE id > :after AND act IN ('delivery.replay', 'delivery.cancel')
