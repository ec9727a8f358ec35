-- Nexmark's bids as protobuf records in Kafka.
CREATE STREAM bid (WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND)
WITH (
  connector = 'kafka', brokers = '127.0.0.1:9092', topic = 'bid',
  format = 'protobuf', message = 'rondel.nexmark.Bid', descriptor = 'file:sql/nexmark/bid.proto'
);
