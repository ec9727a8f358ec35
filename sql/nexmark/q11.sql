-- Nexmark q11: how many bids each bidder makes in a session of activity.
CREATE SINK q11 WITH (connector = 'blackhole') AS
SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(date_time), INTERVAL '10' SECOND)
GROUP BY bidder, window_start, window_end
EMIT AFTER WATERMARK;
