-- Nexmark q10: bids with the day and the minute that files of a log are named by.
CREATE SINK q10 WITH (connector = 'blackhole') AS
SELECT auction, bidder, price, date_time, extra,
       to_char(date_time, 'YYYY-MM-DD') AS dt, to_char(date_time, 'HH24:MI') AS hm
FROM bid;
