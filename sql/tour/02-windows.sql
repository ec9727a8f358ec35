-- Bookings and fares of each zone, ten seconds at a time. EMIT AFTER WATERMARK: a row stands here once, when its window
-- is complete.
CREATE MATERIALIZED VIEW demand AS
SELECT window_start, window_end, pickup.zone AS zone, count(*) AS bookings, round(sum(fare), 2) AS fares
FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '10' SECOND)
GROUP BY window_start, window_end, pickup.zone
EMIT AFTER WATERMARK;

-- The same thought over the last minute, moving on every ten seconds. Without EMIT the rows are there at once, and are
-- corrected as bookings come.
CREATE MATERIALIZED VIEW last_minute AS
SELECT window_start, window_end, service_type, count(*) AS bookings, round(avg(distance_meters)) AS meters
FROM HOP(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '10' SECOND, INTERVAL '1' MINUTE)
GROUP BY window_start, window_end, service_type;

-- No window at all: a running total for each state that a booking can be in.
CREATE MATERIALIZED VIEW statuses AS
SELECT status, count(*) AS bookings, max(event_timestamp) AS latest
FROM bookings
GROUP BY status;
