-- A destination appears with its first delivery.
INSERT INTO destinations (origin) VALUES (:origin) ON CONFLICT (origin) DO NOTHING
