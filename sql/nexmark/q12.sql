-- Nexmark q12: how many bids each bidder makes in ten seconds. The published query counts by the time of processing, which
-- gives another answer at every run; this one counts by the time of the bids.
CREATE SINK q12 WITH (connector = 'blackhole') AS
SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND)
GROUP BY bidder, window_start, window_end
EMIT AFTER WATERMARK;
