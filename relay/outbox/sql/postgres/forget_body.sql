-- Its delivery is held until that is committed: what an operator replays meanwhile keeps its body, and what is forgotten
-- is not replayed.
DELETE FROM bodies WHERE seq = (
    SELECT seq FROM deliveries WHERE seq = :seq AND state IN ('delivered', 'dead', 'cancelled') FOR UPDATE
)
