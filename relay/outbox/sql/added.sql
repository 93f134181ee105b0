-- What came since the last count: a range of new rows, not of history.
SELECT kind, count(*) FROM deliveries WHERE seq > :after AND seq <= :last GROUP BY kind
