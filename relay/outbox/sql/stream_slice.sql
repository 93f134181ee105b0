-- The next streams in the order in which they appeared: the last of them, and how many they are.
SELECT max(id) AS last, count(*) AS seen FROM (SELECT id FROM streams WHERE id > :after ORDER BY id LIMIT :slice) AS page
