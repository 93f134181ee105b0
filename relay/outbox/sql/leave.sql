-- A relay that says goodbye: the others need not wait until it has been silent.
DELETE FROM relays WHERE holder = :holder
