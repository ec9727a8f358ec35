-- Nexmark q0: bids as they come. What the engine itself costs.
CREATE SINK q0 WITH (connector = 'blackhole') AS
SELECT auction, bidder, price, date_time, extra
FROM bid;
