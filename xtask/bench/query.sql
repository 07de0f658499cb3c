-- A table, an index, and queries that join, group and sort.
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, value INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  INSERT INTO item SELECT i, 'name ' || (i * 7919 % 20011), i * 31 % 1000 FROM n;
CREATE INDEX item_by_name ON item(name);
SELECT count(*), max(length(name)) FROM (SELECT group_concat(name) AS name FROM item GROUP BY value);
SELECT count(*) FROM item a JOIN item b ON a.name = b.name AND a.id <= b.id;
SELECT count(*) FROM (SELECT upper(name) || value AS t FROM item ORDER BY t);
