-- Of a delivery that is yet to be routed. Here there is none: there is one writer at a time, and a producer makes the
-- destination itself. On PostgreSQL it would be waited for.
ALTER TABLE deliveries ADD COLUMN origin TEXT CHECK (origin IS NULL);
