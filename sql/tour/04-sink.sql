-- Back to Kafka: every completed window of demand, as a Demand message keyed by its zone.
CREATE SINK demand_out
WITH (
  connector = 'kafka', brokers = '127.0.0.1:9092', topic = 'demand', key = 'zone',
  format = 'protobuf', message = 'rondel.tour.Demand', descriptor = 'file:sql/tour/booking.proto'
)
AS SELECT window_start, window_end, zone, bookings, fares FROM demand;
