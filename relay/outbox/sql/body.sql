SELECT body FROM bodies WHERE seq = :seq
