-- The process that adds to a live stream, by the name under which it says that it lives; NULL where it says nothing.
ALTER TABLE streams ADD COLUMN producer TEXT;
