-- Nexmark q18: the last bid of each bidder for each auction.
CREATE SINK q18 WITH (connector = 'blackhole') AS
SELECT auction, bidder, price, channel, url, date_time, extra
FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC) AS place
  FROM bid
) AS bids
WHERE place <= 1;
