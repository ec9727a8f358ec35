-- Nexmark q2: the bids on some of the auctions.
CREATE SINK q2 WITH (connector = 'blackhole') AS
SELECT auction, price
FROM bid
WHERE auction % 123 = 0;
