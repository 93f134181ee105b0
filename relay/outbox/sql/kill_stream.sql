-- A dead delivery ends its stream, if the stream says so.
UPDATE streams SET state = 'killed', reason = 'delivery_dead', finished_at = :now WHERE id = :stream_id AND on_dead = 'kill'
