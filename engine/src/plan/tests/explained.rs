//! EXPLAIN of every operator.

use super::*;

#[test]
fn filter_and_project() {
    insta::assert_snapshot!(explained("SELECT id, upper(zone) AS z FROM bookings WHERE price > 5"), @r#"
Project bookings.id, upper(bookings."zone") AS z
     append-only
  -> Filter bookings.price > 5.0
         append-only
    -> Scan stream bookings: id, zone, price
           append-only
"#);
}

#[test]
fn columns_of_the_planners_own_are_said_as_what_they_are() {
    let common =
        explained("SELECT upper(zone || 'x') AS a, lower(zone || 'x') AS b FROM bookings WHERE zone || 'x' <> 'y'");
    assert!(common.contains("upper(bookings.\"zone\" || 'x') AS a"), "{common}");
    let carried = explained(
        "SELECT count(*) AS n FROM bookings GROUP BY zone, id % 2 EMIT STREAM AFTER DELAY INTERVAL '1' SECOND",
    );
    assert!(carried.contains("bookings.zone"), "{carried}");
    for text in [common, carried] {
        assert!(!text.contains("__common_expr") && !text.contains("_carried_"), "{text}");
    }
}

#[test]
fn a_watermark_follows_projections() {
    insta::assert_snapshot!(explained(
        "SELECT event_timestamp AS t, event_timestamp - INTERVAL '1' HOUR AS earlier, date_trunc('hour', event_timestamp) AS h
         FROM bookings"
    ), @r"
Project bookings.event_timestamp AS t, bookings.event_timestamp - INTERVAL '1 HOURS' AS earlier, date_trunc('hour', bookings.event_timestamp) AS h
     append-only; t grows with watermark of bookings.event_timestamp; earlier grows with watermark of bookings.event_timestamp less 1 h; h grows with watermark of bookings.event_timestamp less 1 h
  -> Scan stream bookings: event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
         append-only; event_timestamp grows with watermark of bookings.event_timestamp
");
}

#[test]
fn window_final() {
    insta::assert_snapshot!(explained(
        "SELECT window_start, zone, count(*) AS n, sum(price) FILTER (WHERE id > 3) AS s, count(DISTINCT id)
         FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         WHERE price > 1
         GROUP BY window_start, window_end, zone HAVING count(*) > 2 EMIT AFTER WATERMARK"
    ), @r"
Project window_start, bookings.zone, count(*) AS n, sum(bookings.price) FILTER (WHERE bookings.id > Int64(3)) AS s, count(DISTINCT bookings.id) AS count
     append-only; window_start grows with watermark of bookings.event_timestamp less 1 min
  -> Filter count(*) > 2
         append-only; window_start grows with watermark of bookings.event_timestamp less 1 min
    -> Project window_start, bookings.zone, count(*), sum(bookings.price) FILTER (WHERE bookings.id > Int64(3)), count(DISTINCT bookings.id)
           append-only; window_start grows with watermark of bookings.event_timestamp less 1 min
      -> WindowAggregate TUMBLE 1 min of event_timestamp by window_start, window_end, bookings.zone: count(*), sum(bookings.price) FILTER (WHERE bookings.id > 3), count(DISTINCT bookings.id), shown once at the watermark
             append-only; key (window_start, window_end, zone); window_start grows with watermark of bookings.event_timestamp less 1 min; window_end grows with watermark of bookings.event_timestamp
             exchange by window_start, window_end, bookings.zone
             state: the open windows, released by watermark of bookings.event_timestamp
        -> Filter bookings.price > 1.0
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
          -> Scan stream bookings: id, zone, price, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
                 append-only; event_timestamp grows with watermark of bookings.event_timestamp
");
}

#[test]
fn window_corrected() {
    insta::assert_snapshot!(explained(
        "SELECT w.window_end, avg(w.price) FROM TABLE(HOP(TABLE bookings, DESCRIPTOR(event_timestamp),
           INTERVAL '1' MINUTE, INTERVAL '5' MINUTE, INTERVAL '30' SECOND)) AS w GROUP BY w.window_end"
    ), @r"
WindowAggregate HOP 5 min every 1 min offset 30 s of event_timestamp by window_end: avg(bookings.price), shown at once and corrected
     changelog; key (window_end); window_end grows with watermark of bookings.event_timestamp
     exchange by window_end
     state: the open windows, released by watermark of bookings.event_timestamp
  -> Scan stream bookings: price, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
         append-only; event_timestamp grows with watermark of bookings.event_timestamp
");
}

#[test]
fn window_without_watermark() {
    insta::assert_snapshot!(explained(
        "SELECT window_end, count(*) FROM CUMULATE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' HOUR, INTERVAL '1' DAY)
         GROUP BY window_start, window_end"
    ), @r"
Project window_end, count(*) AS count
     changelog
  -> WindowAggregate CUMULATE 1 h up to 1 d of at by window_start, window_end: count(*), shown at once and corrected
         changelog; key (window_start, window_end)
         exchange by window_start, window_end
         state: all windows: not bounded, since the time has no watermark
    -> Scan stream clicks: at
           append-only
");
}

#[test]
fn window_over_subquery_and_cte() {
    insta::assert_snapshot!(explained(
        "WITH dear AS (SELECT zone || '!' AS z, event_timestamp AS t FROM bookings WHERE price > 9)
         SELECT z, window_start, max(t) FROM TUMBLE(TABLE dear, DESCRIPTOR(t), INTERVAL '1' DAY)
         GROUP BY z, window_start EMIT AFTER WATERMARK"
    ), @r#"
WindowAggregate TUMBLE 1 d of t by dear.z, window_start: max(dear.t), shown once at the watermark
     append-only; key (z, window_start); window_start grows with watermark of bookings.event_timestamp less 1 d
     exchange by dear.z, window_start
     state: the open windows, released by watermark of bookings.event_timestamp
  -> Project bookings."zone" || '!' AS z, bookings.event_timestamp AS t
         append-only; t grows with watermark of bookings.event_timestamp
    -> Filter bookings.price > 9.0
           append-only; event_timestamp grows with watermark of bookings.event_timestamp
      -> Scan stream bookings: zone, price, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
             append-only; event_timestamp grows with watermark of bookings.event_timestamp
"#);
    insta::assert_snapshot!(explained(
        "SELECT count(*) FROM TUMBLE((SELECT at FROM rides WHERE zone = 'a'), DESCRIPTOR(at), INTERVAL '1' DAY)
         GROUP BY window_start EMIT AFTER WATERMARK"
    ), @r#"
Project count(*) AS count
     append-only
  -> WindowAggregate TUMBLE 1 d of at by window_start: count(*), shown once at the watermark
         append-only; key (window_start); window_start grows with watermark of rides.at less 1 d
         exchange by window_start
         state: the open windows, released by watermark of rides.at
    -> Project rides.at
           append-only; at grows with watermark of rides.at
      -> Filter rides."zone" = 'a'
             append-only; at grows with watermark of rides.at
        -> Scan stream rides: zone, at; watermark for at as at
               append-only; at grows with watermark of rides.at
"#);
}

#[test]
fn window_alone_and_not_fused() {
    insta::assert_snapshot!(explained(
        "SELECT id, window_start FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)"
    ), @r"
Project bookings.id, window_start
     append-only; window_start grows with watermark of bookings.event_timestamp less 1 min
  -> Window TUMBLE 1 min of event_timestamp: a copy of the row for each window
         append-only; event_timestamp grows with watermark of bookings.event_timestamp; window_start grows with watermark of bookings.event_timestamp less 1 min; window_end grows with watermark of bookings.event_timestamp
    -> Scan stream bookings: id, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
           append-only; event_timestamp grows with watermark of bookings.event_timestamp
");
    insta::assert_snapshot!(explained(
        "SELECT window_end, max(window_end - event_timestamp)
         FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         GROUP BY window_end EMIT AFTER WATERMARK"
    ), @r"
Aggregate by window_end: max(window_end - bookings.event_timestamp), shown once at the watermark
     append-only; key (window_end); window_end grows with watermark of bookings.event_timestamp
     exchange by window_end
     state: the open groups, released by watermark of bookings.event_timestamp
  -> Project bookings.event_timestamp, window_end
         append-only; event_timestamp grows with watermark of bookings.event_timestamp; window_end grows with watermark of bookings.event_timestamp
    -> Window TUMBLE 1 min of event_timestamp: a copy of the row for each window
           append-only; event_timestamp grows with watermark of bookings.event_timestamp; window_start grows with watermark of bookings.event_timestamp less 1 min; window_end grows with watermark of bookings.event_timestamp
      -> Scan stream bookings: event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
             append-only; event_timestamp grows with watermark of bookings.event_timestamp
");
    insta::assert_snapshot!(explained(
        "SELECT window_start, count(*)
         FROM CUMULATE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE, INTERVAL '1' HOUR)
         GROUP BY window_start EMIT AFTER WATERMARK"
    ), @r"
Project window_start, count(*) AS count
     append-only; key (window_start); window_start grows with watermark of bookings.event_timestamp less 1 h
  -> Aggregate by window_start: count(*), shown once at the watermark
         append-only; key (window_start); window_start grows with watermark of bookings.event_timestamp less 1 h
         exchange by window_start
         state: the open groups, released by watermark of bookings.event_timestamp less 1 h
    -> Project window_start
           append-only; window_start grows with watermark of bookings.event_timestamp less 1 h
      -> Window CUMULATE 1 min up to 1 h of event_timestamp: a copy of the row for each window
             append-only; event_timestamp grows with watermark of bookings.event_timestamp; window_start grows with watermark of bookings.event_timestamp less 1 h; window_end grows with watermark of bookings.event_timestamp
        -> Scan stream bookings: event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
");
}

#[test]
fn running_aggregates() {
    insta::assert_snapshot!(explained("SELECT zone, min(price), string_agg(note, ',') FROM bookings GROUP BY zone"), @r"
Aggregate by bookings.zone: min(bookings.price), string_agg(bookings.note, ',' ORDER BY bookings.note), shown at once and corrected
     changelog; key (zone)
     exchange by bookings.zone
     state: grows with the number of groups: not bounded
  -> Scan stream bookings: zone, price, note
         append-only
");
    insta::assert_snapshot!(explained("SELECT count(*) FROM bookings"), @r"
Project count(*) AS count
     changelog; one row
  -> Aggregate: count(*), shown at once and corrected
         changelog; one row
         exchange by nothing: one worker
         state: one row
    -> Scan stream bookings: id
           append-only
");
    insta::assert_snapshot!(explained("SELECT DISTINCT zone FROM bookings"), @r"
Distinct bookings.zone
     append-only; key (zone)
     exchange by bookings.zone
     state: grows with the number of groups: not bounded
  -> Scan stream bookings: zone
         append-only
");
    insta::assert_snapshot!(explained(
        "SELECT date_bin(INTERVAL '5' MINUTE, event_timestamp) AS slot, count(*) FROM bookings GROUP BY slot EMIT AFTER WATERMARK"
    ), @r#"
Project date_bin(IntervalMonthDayNano("IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 300000000000 }"),bookings.event_timestamp) AS slot, count(*) AS count
     append-only; key (slot); slot grows with watermark of bookings.event_timestamp less 5 min
  -> Aggregate by date_bin(INTERVAL '5 MINS', bookings.event_timestamp): count(*), shown once at the watermark
         append-only; key (date_bin(IntervalMonthDayNano("IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 300000000000 }"),bookings.event_timestamp)); date_bin(IntervalMonthDayNano("IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 300000000000 }"),bookings.event_timestamp) grows with watermark of bookings.event_timestamp less 5 min
         exchange by date_bin(INTERVAL '5 MINS', bookings.event_timestamp)
         state: the open groups, released by watermark of bookings.event_timestamp less 5 min
    -> Scan stream bookings: event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
           append-only; event_timestamp grows with watermark of bookings.event_timestamp
"#);
}

#[test]
fn union() {
    insta::assert_snapshot!(explained(
        "SELECT zone, event_timestamp FROM bookings UNION ALL SELECT zone, at FROM rides UNION ALL VALUES ('x', NULL)"
    ), @r#"
Union all
     append-only; event_timestamp grows with the least of (watermark of bookings.event_timestamp, watermark of rides.at)
  -> Scan stream bookings: zone, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
         append-only; event_timestamp grows with watermark of bookings.event_timestamp
  -> Project rides.zone, CAST(rides."at" AS TIMESTAMP) AS event_timestamp
         append-only; event_timestamp grows with watermark of rides.at
    -> Scan stream rides: zone, at; watermark for at as at
           append-only; at grows with watermark of rides.at
  -> Project column1 AS zone, CAST(column2 AS TIMESTAMP) AS event_timestamp
         append-only
    -> Values: 1 rows
           append-only
"#);
    insta::assert_snapshot!(explained(
        "SELECT count(*) FROM TUMBLE((SELECT event_timestamp AS t FROM bookings UNION ALL SELECT at FROM rides),
           DESCRIPTOR(t), INTERVAL '1' MINUTE) GROUP BY window_end EMIT AFTER WATERMARK"
    ), @r#"
Project count(*) AS count
     append-only
  -> WindowAggregate TUMBLE 1 min of t by window_end: count(*), shown once at the watermark
         append-only; key (window_end); window_end grows with the least of (watermark of bookings.event_timestamp, watermark of rides.at)
         exchange by window_end
         state: the open windows, released by the least of (watermark of bookings.event_timestamp, watermark of rides.at)
    -> Union all
           append-only; t grows with the least of (watermark of bookings.event_timestamp, watermark of rides.at)
      -> Project bookings.event_timestamp AS t
             append-only; t grows with watermark of bookings.event_timestamp
        -> Scan stream bookings: event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
      -> Project CAST(rides."at" AS TIMESTAMP) AS t
             append-only; t grows with watermark of rides.at
        -> Scan stream rides: at; watermark for at as at
               append-only; at grows with watermark of rides.at
"#);
}

#[test]
fn join() {
    insta::assert_snapshot!(explained(
        "SELECT b.id, r.zone FROM bookings b JOIN rides r ON b.id = r.booking AND b.zone <> r.zone"
    ), @r#"
Project b.id, r.zone
     append-only
  -> Inner join on b.id = r.booking and b."zone" <> r."zone"
         append-only
         exchange by b.id | r.booking
         state: left rows, all of them: not bounded
         state: right rows, all of them: not bounded
    -> Filter bookings.id IS NOT NULL
           append-only
      -> Scan stream bookings: id, zone
             append-only
    -> Filter rides.booking IS NOT NULL
           append-only
      -> Scan stream rides: booking, zone
             append-only
"#);
    insta::assert_snapshot!(explained(
        "SELECT b.id FROM bookings b, clicks c WHERE b.id = c.id AND b.price > 3 AND b.price + c.id > 7"
    ), @r"
Project b.id
     append-only
  -> Inner join on b.id = c.id and b.price + CAST(c.id AS DOUBLE) > 7.0
         append-only
         exchange by b.id | c.id
         state: left rows, all of them: not bounded
         state: right rows, all of them: not bounded
    -> Filter bookings.id IS NOT NULL AND bookings.price > 3.0 AND bookings.price + CAST(bookings.id AS DOUBLE) > 7.0
           append-only
      -> Scan stream bookings: id, price
             append-only
    -> Filter clicks.id IS NOT NULL
           append-only
      -> Scan stream clicks: id
             append-only
");
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
    ), @r#"
Project a.window_end, a.zone, a.n, b.m
     append-only; key (window_end, zone); window_end grows with the least of (watermark of bookings.event_timestamp, watermark of rides.at)
  -> Inner join on a.window_end = CAST(b.window_end AS TIMESTAMP) and a.zone = b.zone
         append-only; key (a.window_end, a.zone); key (b.window_end, b.zone); a.window_end grows with the least of (watermark of bookings.event_timestamp, watermark of rides.at); b.window_end grows with the least of (watermark of bookings.event_timestamp, watermark of rides.at)
         exchange by a.window_end, a.zone | CAST(b.window_end AS TIMESTAMP), b.zone
         state: left rows, released by watermark of rides.at
         state: right rows, released by watermark of bookings.event_timestamp
    -> Project window_end, bookings.zone, count(*) AS n
           append-only; key (window_end, zone); window_end grows with watermark of bookings.event_timestamp
      -> WindowAggregate TUMBLE 1 min of event_timestamp by window_end, bookings.zone: count(*), shown once at the watermark
             append-only; key (window_end, zone); window_end grows with watermark of bookings.event_timestamp
             exchange by window_end, bookings.zone
             state: the open windows, released by watermark of bookings.event_timestamp
        -> Filter bookings."zone" IS NOT NULL
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
          -> Scan stream bookings: zone, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
                 append-only; event_timestamp grows with watermark of bookings.event_timestamp
    -> Project window_end, rides.zone, count(*) AS m
           append-only; key (window_end, zone); window_end grows with watermark of rides.at
      -> WindowAggregate TUMBLE 1 min of at by window_end, rides.zone: count(*), shown once at the watermark
             append-only; key (window_end, zone); window_end grows with watermark of rides.at
             exchange by window_end, rides.zone
             state: the open windows, released by watermark of rides.at
        -> Filter rides."zone" IS NOT NULL
               append-only; at grows with watermark of rides.at
          -> Scan stream rides: zone, at; watermark for at as at
                 append-only; at grows with watermark of rides.at
"#);
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
    ), @r"
Project counts.zone, counts.n
     append-only
  -> Inner join on counts.window_start = most.window_start and counts.window_end = most.window_end and counts.n >= most.n
         append-only; key (zone, counts.window_start, counts.window_end); counts.window_end grows with watermark of bookings.event_timestamp; most.window_end grows with watermark of bookings.event_timestamp
         exchange by counts.window_start, counts.window_end | most.window_start, most.window_end
         state: left rows, released by watermark of bookings.event_timestamp
         state: right rows, released by watermark of bookings.event_timestamp
    -> Project bookings.zone, window_start, window_end, count(*) AS n
           append-only; key (zone, window_start, window_end); window_start grows with watermark of bookings.event_timestamp less 10 s; window_end grows with watermark of bookings.event_timestamp
      -> [1] WindowAggregate HOP 10 s every 2 s of event_timestamp by bookings.zone, window_start, window_end: count(*), shown once at the watermark
             append-only; key (zone, window_start, window_end); window_start grows with watermark of bookings.event_timestamp less 10 s; window_end grows with watermark of bookings.event_timestamp
             exchange by bookings.zone, window_start, window_end
             state: the open windows, released by watermark of bookings.event_timestamp
        -> Scan stream bookings: zone, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
    -> Aggregate by counts.window_start, counts.window_end: max(counts.n), shown once at the watermark
           append-only; key (window_start, window_end); window_end grows with watermark of bookings.event_timestamp
           exchange by counts.window_start, counts.window_end
           state: the open groups, released by watermark of bookings.event_timestamp
      -> Project window_start, window_end, count(*) AS n
             append-only; window_start grows with watermark of bookings.event_timestamp less 10 s; window_end grows with watermark of bookings.event_timestamp
        -> [1] as above
");
}

#[test]
fn views() {
    insta::assert_snapshot!(explained("SELECT zone, n FROM demand WHERE n > 5"), @r"
Filter demand.n > 5
     append-only
  -> Scan view demand: zone, n
         append-only
");
    insta::assert_snapshot!(explained(
        "SELECT window_end, sum(n) FROM demand GROUP BY window_end EMIT AFTER WATERMARK"
    ), @r"
Aggregate by demand.window_end: sum(demand.n), shown once at the watermark
     append-only; key (window_end); window_end grows with watermark of demand.window_end
     exchange by demand.window_end
     state: the open groups, released by watermark of demand.window_end
  -> Scan view demand: window_end, n
         append-only; window_end grows with watermark of demand.window_end
");
    insta::assert_snapshot!(explained("SELECT * FROM totals WHERE total > 5"), @r#"
Filter "totals".total > 5.0
     changelog; key (zone)
  -> Scan view totals: zone, total
         changelog; key (zone)
"#);
    insta::assert_snapshot!(explained("SELECT z, \"Price\" FROM cheap"), @r"
Project bookings.zone AS z, bookings.price AS Price
     append-only
  -> Filter bookings.price < 5.0
         append-only
    -> Scan stream bookings: zone, price
           append-only
");
    insta::assert_snapshot!(explained(
        "SELECT z, count(*) FROM TUMBLE(TABLE cheap, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         GROUP BY z, window_end EMIT AFTER WATERMARK"
    ), @r"
Project cheap.z, count(*) AS count
     append-only
  -> WindowAggregate TUMBLE 1 min of event_timestamp by cheap.z, window_end: count(*), shown once at the watermark
         append-only; key (z, window_end); window_end grows with watermark of bookings.event_timestamp
         exchange by cheap.z, window_end
         state: the open windows, released by watermark of bookings.event_timestamp
    -> Project bookings.zone AS z, bookings.event_timestamp
           append-only; event_timestamp grows with watermark of bookings.event_timestamp
      -> Filter bookings.price < 5.0
             append-only; event_timestamp grows with watermark of bookings.event_timestamp
        -> Scan stream bookings: zone, price, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
");
}

#[test]
fn constants() {
    insta::assert_snapshot!(explained("SELECT 1 + 1 AS two"), @r"
Project 2 AS two
     append-only
  -> Values: 1 rows
         append-only
");
    insta::assert_snapshot!(explained("VALUES (1, 'a'), (2, upper('b'))"), @r"
Values: 2 rows
     append-only
");
    insta::assert_snapshot!(explained("SELECT id FROM bookings WHERE 1 = 2"), @r"
Values: 0 rows
     append-only
");
}
