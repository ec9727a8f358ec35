-- Nexmark q7: the highest bids of every ten seconds.
CREATE SINK q7 WITH (connector = 'blackhole') AS
SELECT bids.auction, bids.price, bids.bidder, bids.date_time, bids.extra
FROM TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND) AS bids
JOIN (
  SELECT max(price) AS price, window_start, window_end
  FROM TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND)
  GROUP BY window_start, window_end
) AS highest
ON bids.window_start = highest.window_start AND bids.window_end = highest.window_end AND bids.price = highest.price
EMIT AFTER WATERMARK;
