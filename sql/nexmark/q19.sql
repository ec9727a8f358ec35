-- Nexmark q19: the ten highest bids of each auction.
CREATE SINK q19 WITH (connector = 'blackhole') AS
SELECT *
FROM (
  SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS place
  FROM bid
) AS bids
WHERE place <= 10;
