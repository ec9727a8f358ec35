-- Nexmark q13: bids with what a table says of their auctions.
CREATE SINK q13 WITH (connector = 'blackhole') AS
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid AS b
JOIN side_input AS s ON b.auction % 10000 = s.key;
