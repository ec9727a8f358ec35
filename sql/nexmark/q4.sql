-- Nexmark q4: the average price at which auctions of each category are won.
CREATE SINK q4 WITH (connector = 'blackhole') AS
SELECT category, avg(final) AS price
FROM (
  SELECT a.category, max(b.price) AS final
  FROM auction AS a
  JOIN bid AS b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.category
) AS won
GROUP BY category;
