-- What operators did to many deliveries at once, and how far they are: the line grows while they are at it.
SELECT id, at, act, source, CAST(coalesce(detail ->> 'done', '0') AS bigint) AS done FROM audit
WHERE id > :after AND act IN ('delivery.replay', 'delivery.cancel')
