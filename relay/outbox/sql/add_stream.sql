-- A stream appears with its first delivery, and counts what is added to it. Nothing joins a killed one.
INSERT INTO streams (key, on_dead, position) VALUES (:stream, :on_dead, 1)
ON CONFLICT (key) DO UPDATE SET position = position + 1 WHERE state = 'open'
