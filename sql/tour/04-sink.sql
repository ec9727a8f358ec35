-- Back to Kafka: every completed window of demand, as a Demand message keyed by its zone. A sink writes exactly once if nothing is said;
-- the demo's broker, librdkafka's mock, acknowledges transactions without keeping them, so this one writes at least once.
CREATE SINK demand_out
WITH (
  connector = 'kafka', brokers = '127.0.0.1:9092', topic = 'demand', key = 'zone', delivery = 'at_least_once',
  format = 'protobuf', message = 'rondel.tour.Demand', descriptor = 'file:sql/tour/booking.proto'
)
AS SELECT window_start, window_end, zone, bookings, fares FROM demand;
