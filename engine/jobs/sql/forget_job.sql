-- After its result, which refers to it. Work under way finds its lease gone, and adds nothing.
DELETE FROM jobs WHERE seq = :seq
