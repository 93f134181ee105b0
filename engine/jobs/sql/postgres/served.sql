-- These keys, a JSON array in the order of their turns, go to the back. Their rows are held since `turns`.
UPDATE queues SET served = turns.place + last.turn
FROM json_array_elements_text(CAST(:keys AS json)) WITH ORDINALITY AS turns (key_id, place),
     (SELECT max(served) AS turn FROM queues) AS last
WHERE queues.key_id = turns.key_id
