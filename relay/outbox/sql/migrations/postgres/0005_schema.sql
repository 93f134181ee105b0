-- Into a schema of the outbox's own, beside whatever else is in the database. Sequences, indexes and constraints go along
-- with their tables. A database that has none of these gets them there at once: see ../../baselines/postgres.
DROP TRIGGER ring ON deliveries;
DROP TRIGGER ring ON streams;
ALTER TABLE destinations SET SCHEMA outspoken;
ALTER TABLE streams SET SCHEMA outspoken;
ALTER TABLE deliveries SET SCHEMA outspoken;
ALTER TABLE bodies SET SCHEMA outspoken;
ALTER TABLE attempts SET SCHEMA outspoken;
ALTER TABLE signing_keys SET SCHEMA outspoken;
ALTER TABLE relays SET SCHEMA outspoken;
ALTER TABLE audit SET SCHEMA outspoken;
ALTER TABLE secrets SET SCHEMA outspoken;

DROP FUNCTION outspoken_ring();
DROP FUNCTION outspoken_ipv6(TEXT);
DROP FUNCTION outspoken_read(TEXT);
DROP FUNCTION outspoken_is_text(BYTEA);
DROP FUNCTION outspoken_flaw_of(JSON);
DROP FUNCTION outspoken_flaw_of(TEXT, TEXT);
DROP FUNCTION outspoken_join(TEXT, TEXT, TEXT, JSON, TEXT, DOUBLE PRECISION, TEXT, INTEGER);
DROP FUNCTION outspoken_raise(TEXT, TEXT);

-- Producers may go on calling what was here, until they were changed: with the rights that were given, the same functions
-- by their old names. The views by their old names have followed their tables.
CREATE OR REPLACE FUNCTION outspoken_try_add_v1(
    id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
    traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
    stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT said.refusal, said.message INTO refusal, message
    FROM outspoken.try_add_v1(
        id, url, body, method, kind, content_type, headers, traceparent, schedule, stream, on_dead, live_until,
        producer) AS said;
END
$$;

CREATE OR REPLACE FUNCTION outspoken_add_v1(
    id TEXT, url TEXT, body BYTEA,
    method TEXT DEFAULT NULL, kind TEXT DEFAULT NULL, content_type TEXT DEFAULT NULL, headers JSON DEFAULT NULL,
    traceparent TEXT DEFAULT NULL, schedule TEXT DEFAULT NULL,
    stream TEXT DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM outspoken.add_v1(
        id, url, body, method, kind, content_type, headers, traceparent, schedule, stream, on_dead, live_until,
        producer);
END
$$;

CREATE OR REPLACE FUNCTION outspoken_try_begin_stream_v1(
    stream TEXT, url TEXT, headers JSON DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL,
    OUT refusal TEXT, OUT message TEXT
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT said.refusal, said.message INTO refusal, message
    FROM outspoken.try_begin_stream_v1(stream, url, headers, on_dead, live_until, producer) AS said;
END
$$;

CREATE OR REPLACE FUNCTION outspoken_begin_stream_v1(
    stream TEXT, url TEXT, headers JSON DEFAULT NULL, on_dead TEXT DEFAULT NULL, live_until DOUBLE PRECISION DEFAULT NULL,
    producer TEXT DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM outspoken.begin_stream_v1(stream, url, headers, on_dead, live_until, producer);
END
$$;

CREATE OR REPLACE FUNCTION outspoken_end_stream_v1(stream TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM outspoken.end_stream_v1(stream);
END
$$;

CREATE OR REPLACE FUNCTION outspoken_keep_streams_v1(keys TEXT[], until DOUBLE PRECISION) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM outspoken.keep_streams_v1(keys, until);
END
$$;
