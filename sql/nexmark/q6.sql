-- Nexmark q6: of each seller, the average price of the last ten auctions that were won.
CREATE SINK q6 WITH (connector = 'blackhole') AS
SELECT seller, auction,
       avg(price) OVER (PARTITION BY seller ORDER BY date_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS price
FROM (
  SELECT a.seller, b.auction, b.price, b.date_time,
         row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time) AS place
  FROM auction AS a
  JOIN bid AS b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
) AS bids
WHERE place = 1;
