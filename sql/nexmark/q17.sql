-- Nexmark q17: the bids of an auction in a day: how many, by price, and what they are like.
CREATE SINK q17 WITH (connector = 'blackhole') AS
SELECT auction, date_time::DATE AS day,
       count(*) AS total_bids,
       count(*) FILTER (WHERE price < 10000) AS rank1_bids,
       count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
       count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
       min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
FROM bid
GROUP BY auction, date_time::DATE;
