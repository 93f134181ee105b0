-- A stream can be forgotten once no delivery of it is left; without this, to find that out would read all deliveries.
CREATE INDEX deliveries_of_stream ON deliveries (stream_id) WHERE stream_id IS NOT NULL;
