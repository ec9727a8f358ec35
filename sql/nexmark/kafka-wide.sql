-- The dear bids whole.
CREATE SINK wide WITH (connector = 'blackhole') AS
SELECT *
FROM bid
WHERE price > 1000000;
