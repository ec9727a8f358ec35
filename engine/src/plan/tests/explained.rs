//! EXPLAIN of every operator.

use super::*;

#[test]
fn filter_and_project() {
    insta::assert_snapshot!(explained("SELECT id, upper(zone) AS z FROM bookings WHERE price > 5"), @"");
}

#[test]
fn a_watermark_follows_projections() {
    insta::assert_snapshot!(explained(
        "SELECT event_timestamp AS t, event_timestamp - INTERVAL '1' HOUR AS earlier, date_trunc('hour', event_timestamp) AS h
         FROM bookings"
    ), @"");
}

#[test]
fn window_final() {
    insta::assert_snapshot!(explained(
        "SELECT window_start, zone, count(*) AS n, sum(price) FILTER (WHERE id > 3) AS s, count(DISTINCT id)
         FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         WHERE price > 1
         GROUP BY window_start, window_end, zone HAVING count(*) > 2 EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn window_corrected() {
    insta::assert_snapshot!(explained(
        "SELECT w.window_end, avg(w.price) FROM TABLE(HOP(TABLE bookings, DESCRIPTOR(event_timestamp),
           INTERVAL '1' MINUTE, INTERVAL '5' MINUTE, INTERVAL '30' SECOND)) AS w GROUP BY w.window_end"
    ), @"");
}

#[test]
fn window_without_watermark() {
    insta::assert_snapshot!(explained(
        "SELECT window_end, count(*) FROM CUMULATE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' HOUR, INTERVAL '1' DAY)
         GROUP BY window_start, window_end"
    ), @"");
}

#[test]
fn window_over_subquery_and_cte() {
    insta::assert_snapshot!(explained(
        "WITH dear AS (SELECT zone || '!' AS z, event_timestamp AS t FROM bookings WHERE price > 9)
         SELECT z, window_start, max(t) FROM TUMBLE(TABLE dear, DESCRIPTOR(t), INTERVAL '1' DAY)
         GROUP BY z, window_start EMIT AFTER WATERMARK"
    ), @"");
    insta::assert_snapshot!(explained(
        "SELECT count(*) FROM TUMBLE((SELECT at FROM rides WHERE zone = 'a'), DESCRIPTOR(at), INTERVAL '1' DAY)
         GROUP BY window_start EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn window_alone_and_not_fused() {
    insta::assert_snapshot!(explained(
        "SELECT id, window_start FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)"
    ), @"");
    insta::assert_snapshot!(explained(
        "SELECT window_end, max(window_end - event_timestamp)
         FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         GROUP BY window_end EMIT AFTER WATERMARK"
    ), @"");
    insta::assert_snapshot!(explained(
        "SELECT window_start, count(*)
         FROM CUMULATE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE, INTERVAL '1' HOUR)
         GROUP BY window_start EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn running_aggregates() {
    insta::assert_snapshot!(explained("SELECT zone, min(price), string_agg(note, ',') FROM bookings GROUP BY zone"), @"");
    insta::assert_snapshot!(explained("SELECT count(*) FROM bookings"), @"");
    insta::assert_snapshot!(explained("SELECT DISTINCT zone FROM bookings"), @"");
    insta::assert_snapshot!(explained(
        "SELECT date_bin(INTERVAL '5' MINUTE, event_timestamp) AS slot, count(*) FROM bookings GROUP BY slot EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn union() {
    insta::assert_snapshot!(explained(
        "SELECT zone, event_timestamp FROM bookings UNION ALL SELECT zone, at FROM rides UNION ALL VALUES ('x', NULL)"
    ), @"");
    insta::assert_snapshot!(explained(
        "SELECT count(*) FROM TUMBLE((SELECT event_timestamp AS t FROM bookings UNION ALL SELECT at FROM rides),
           DESCRIPTOR(t), INTERVAL '1' MINUTE) GROUP BY window_end EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn join() {
    insta::assert_snapshot!(explained(
        "SELECT b.id, r.zone FROM bookings b JOIN rides r ON b.id = r.booking AND b.zone <> r.zone"
    ), @"");
    insta::assert_snapshot!(explained(
        "SELECT b.id FROM bookings b, clicks c WHERE b.id = c.id AND b.price > 3 AND b.price + c.id > 7"
    ), @"");
}

#[test]
fn join_of_windows() {
    insta::assert_snapshot!(explained(
        "SELECT a.window_end, a.zone, a.n, b.m FROM
           (SELECT window_end, zone, count(*) AS n FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
            GROUP BY window_end, zone) a
         JOIN
           (SELECT window_end, zone, count(*) AS m FROM TUMBLE(TABLE rides, DESCRIPTOR(at), INTERVAL '1' MINUTE)
            GROUP BY window_end, zone) b
         ON a.window_end = b.window_end AND a.zone = b.zone EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn hot_items() {
    insta::assert_snapshot!(explained(
        "WITH counts AS (SELECT zone, window_start, window_end, count(*) AS n
           FROM HOP(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '2' SECOND, INTERVAL '10' SECOND)
           GROUP BY zone, window_start, window_end),
         most AS (SELECT window_start, window_end, max(n) AS n FROM counts GROUP BY window_start, window_end)
         SELECT counts.zone, counts.n FROM counts JOIN most
           ON counts.window_start = most.window_start AND counts.window_end = most.window_end AND counts.n >= most.n
         EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn views() {
    insta::assert_snapshot!(explained("SELECT zone, n FROM demand WHERE n > 5"), @"");
    insta::assert_snapshot!(explained(
        "SELECT window_end, sum(n) FROM demand GROUP BY window_end EMIT AFTER WATERMARK"
    ), @"");
    insta::assert_snapshot!(explained("SELECT * FROM totals WHERE total > 5"), @"");
    insta::assert_snapshot!(explained("SELECT z, \"Price\" FROM cheap"), @"");
    insta::assert_snapshot!(explained(
        "SELECT z, count(*) FROM TUMBLE(TABLE cheap, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         GROUP BY z, window_end EMIT AFTER WATERMARK"
    ), @"");
}

#[test]
fn constants() {
    insta::assert_snapshot!(explained("SELECT 1 + 1 AS two"), @"");
    insta::assert_snapshot!(explained("VALUES (1, 'a'), (2, upper('b'))"), @"");
    insta::assert_snapshot!(explained("SELECT id FROM bookings WHERE 1 = 2"), @"");
}
