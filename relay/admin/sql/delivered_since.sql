-- No index knows when a delivery ended, so this reads all that is kept: for whoever can wait.
SELECT count(*) FROM deliveries WHERE state = 'delivered' AND finished_at >= :since
