-- What Nexmark's q13 joins bids with: a table, which may change.
CREATE TABLE side_input (key BIGINT PRIMARY KEY, value TEXT);
INSERT INTO side_input SELECT n, 'value of ' || n FROM generate_series(0, 9999) AS numbers(n);
