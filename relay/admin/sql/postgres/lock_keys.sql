-- One change of keys at a time: two that do not see each other could retire the last one of a scope between them.
LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE
