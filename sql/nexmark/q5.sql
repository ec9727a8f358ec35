-- Nexmark q5: the auctions with the most bids in the last ten seconds, every two seconds.
CREATE SINK q5 WITH (connector = 'blackhole') AS
SELECT counted.auction, counted.num, counted.window_start, counted.window_end
FROM (
  SELECT auction, count(*) AS num, window_start, window_end
  FROM HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND)
  GROUP BY auction, window_start, window_end
) AS counted
JOIN (
  SELECT max(num) AS num, window_start, window_end
  FROM (
    SELECT auction, count(*) AS num, window_start, window_end
    FROM HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND)
    GROUP BY auction, window_start, window_end
  ) AS counts
  GROUP BY window_start, window_end
) AS most
ON counted.window_start = most.window_start AND counted.window_end = most.window_end AND counted.num >= most.num
EMIT AFTER WATERMARK;
