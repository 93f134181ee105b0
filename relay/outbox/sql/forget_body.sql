DELETE FROM bodies WHERE seq = :seq
