-- Three columns of the dear bids: the decoder skips the others.
CREATE SINK narrow WITH (connector = 'blackhole') AS
SELECT auction, price, date_time
FROM bid
WHERE price > 1000000;
