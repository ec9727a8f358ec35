-- Two topics, registered as streams. Their columns come from the messages in booking.proto. WATERMARK says how far out of
-- order records may come: ten seconds after a booking's time, nothing older is waited for.
CREATE STREAM bookings (WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '10' SECOND)
WITH (
  connector = 'kafka', brokers = '127.0.0.1:9092', topic = 'bookings',
  format = 'protobuf', message = 'rondel.tour.Booking', descriptor = 'file:sql/tour/booking.proto'
);

CREATE STREAM payments (WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '10' SECOND)
WITH (
  connector = 'kafka', brokers = '127.0.0.1:9092', topic = 'payments',
  format = 'protobuf', message = 'rondel.tour.Payment', descriptor = 'file:sql/tour/booking.proto'
);
