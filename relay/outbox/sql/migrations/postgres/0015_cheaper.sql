-- What a delivery costs the server.

-- An attempt is written in the transaction that has just changed its delivery, and forgotten before it: to look the delivery
-- up once more for each, and to lock it, was most of what writing an attempt took.
ALTER TABLE outspoken.attempts DROP CONSTRAINT attempts_seq_fkey;

-- Bodies that come with their claim stand in one place, and not in pieces in another table. Larger ones go there as before.
ALTER TABLE outspoken.bodies SET (toast_tuple_target = 8160);
