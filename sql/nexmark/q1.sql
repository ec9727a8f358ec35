-- Nexmark q1: prices in another currency.
CREATE SINK q1 WITH (connector = 'blackhole') AS
SELECT auction, bidder, 0.908 * price AS price, date_time, extra
FROM bid;
