-- These keys, a JSON array in the order of their turns, go to the back.
UPDATE queues SET served = turns.turn
FROM (SELECT value AS key_id, key + 1 + (SELECT max(served) FROM queues) AS turn FROM json_each(:keys)) AS turns
WHERE queues.key_id = turns.key_id
