-- Nexmark's three tables as streams from one seed: a hundred seconds of auctions, in the order of their times up to a second.
CREATE STREAM person (WATERMARK FOR date_time AS date_time - INTERVAL '1' SECOND)
WITH (connector = 'nexmark', table = 'person', events = '50000', rate = '500', seed = '7', disorder = '1s');

CREATE STREAM auction (WATERMARK FOR date_time AS date_time - INTERVAL '1' SECOND)
WITH (connector = 'nexmark', table = 'auction', events = '50000', rate = '500', seed = '7', disorder = '1s');

CREATE STREAM bid (WATERMARK FOR date_time AS date_time - INTERVAL '1' SECOND)
WITH (connector = 'nexmark', table = 'bid', events = '50000', rate = '500', seed = '7', disorder = '1s');
