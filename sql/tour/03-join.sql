-- Completed bookings with their payments.
CREATE MATERIALIZED VIEW paid AS
SELECT b.order_number, b.pickup.zone AS zone, b.fare, p.method, p.amount
FROM bookings AS b
JOIN payments AS p ON b.order_number = p.order_number AND p.amount >= b.fare
WHERE b.status = 'COMPLETED';

-- A view over a view: what each way of paying brings in.
CREATE MATERIALIZED VIEW revenue AS
SELECT method, count(*) AS payments, round(sum(amount), 2) AS amount
FROM paid
GROUP BY method;
