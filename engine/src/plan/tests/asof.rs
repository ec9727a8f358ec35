//! As-of joins, temporal joins and the first rows of LATERAL subqueries.

use super::super::flow::{AsOfSide, AsOfSpec, Emit, FlowOp};
use super::*;

/// The as-of joins of a query's plan, inputs first.
fn as_of(text: &str) -> Vec<AsOfSpec> {
    let plan = planned(text).flow;
    plan.nodes.into_iter().filter_map(|node| if let FlowOp::AsOf(spec) = node.op { Some(spec) } else { None }).collect()
}

fn matching(how: &str, condition: &str) -> String {
    format!("SELECT b.id, c.id FROM bookings b {how} clicks c MATCH_CONDITION ({condition}) ON b.zone = c.zone")
}

#[test]
fn every_comparison_and_both_kinds() {
    for (sign, side) in
        [(">=", AsOfSide::AtOrBefore), (">", AsOfSide::Before), ("<=", AsOfSide::AtOrAfter), ("<", AsOfSide::After)]
    {
        for (how, keeps) in [("ASOF JOIN", false), ("LEFT ASOF JOIN", true), ("ASOF LEFT JOIN", true)] {
            let specs = as_of(&matching(how, &format!("b.event_timestamp {sign} c.at")));
            assert_eq!((specs[0].side, specs[0].keeps_unmatched, specs[0].on.len()), (side, keeps, 1));
        }
    }
    let turned = as_of(&matching("ASOF JOIN", "c.at <= b.event_timestamp"));
    assert_eq!(turned[0].side, AsOfSide::AtOrBefore);
    // The match condition may stand in ON, and there may be no keys.
    let on =
        as_of("SELECT b.id FROM bookings b ASOF LEFT JOIN clicks c ON c.zone = b.zone AND b.event_timestamp > c.at");
    assert_eq!((on[0].side, on[0].keeps_unmatched, on[0].on.len()), (AsOfSide::Before, true, 1));
    let all = as_of("SELECT b.id FROM bookings b ASOF JOIN clicks c MATCH_CONDITION (b.id >= c.id)");
    assert_eq!(all[0].on.len(), 0);
    let using =
        planned("SELECT * FROM bookings b ASOF JOIN clicks c MATCH_CONDITION (b.event_timestamp >= c.at) USING (zone)");
    let names: Vec<&str> = using.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "zone", "price", "event_timestamp", "note", "id", "at"]);
}

#[test]
fn several_in_one_from() {
    let specs = as_of(
        "SELECT b.id, c.id, r.booking, d.n
         FROM bookings b
         LEFT JOIN rides FOR SYSTEM_TIME AS OF b.event_timestamp AS r ON r.booking = b.id
         JOIN demand d ON d.zone = b.zone
         ASOF JOIN clicks c MATCH_CONDITION (b.event_timestamp >= c.at) ON b.zone = c.zone, demand e",
    );
    assert_eq!(specs.len(), 2);
    assert!(
        refusal("SELECT b.id FROM clicks b JOIN rides FOR SYSTEM_TIME AS OF b.at AS r ON r.booking = b.id")
            .message()
            .contains("has no watermark")
    );
}

#[test]
fn a_temporal_join_in_explain() {
    insta::assert_snapshot!(explained(
        "SELECT b.id, r.zone FROM bookings AS b LEFT JOIN rides FOR SYSTEM_TIME AS OF b.event_timestamp AS r
         ON b.id = r.booking WHERE b.price > 1"
    ), @r#"
    Project b.id, r.zone
         append-only
      -> Left as-of join with the latest row on b.id = r.booking and b.event_timestamp >= CAST(r."at" AS TIMESTAMP), shown once at the watermark
             append-only; event_timestamp grows with the least of (watermark of bookings.event_timestamp, watermark of rides.at)
             exchange by b.id | r.booking
             state: left rows, released by watermark of rides.at
             state: right rows, but for the latest of each key released by watermark of bookings.event_timestamp
        -> Project bookings.id, bookings.event_timestamp
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
          -> Filter bookings.price > 1.0
                 append-only; event_timestamp grows with watermark of bookings.event_timestamp
            -> Scan stream bookings: id, price, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
                   append-only; event_timestamp grows with watermark of bookings.event_timestamp
        -> Scan stream rides: booking, zone, at; watermark for at as at
               append-only; at grows with watermark of rides.at
    "#);
    insta::assert_snapshot!(explained(&matching("ASOF JOIN", "b.event_timestamp <= c.at")), @"
    Project b.id, c.id
         changelog
      -> As-of join with the earliest row on b.zone = c.zone and b.event_timestamp <= c.at, shown at once and corrected
             changelog
             exchange by b.zone | c.zone
             state: left rows, all of them: not bounded
             state: right rows, released by watermark of bookings.event_timestamp
        -> Scan stream bookings: id, zone, event_timestamp; watermark for event_timestamp as event_timestamp - INTERVAL '10 SECS'
               append-only; event_timestamp grows with watermark of bookings.event_timestamp
        -> Scan stream clicks: id, zone, at
               append-only
    ");
}

#[test]
fn final_rows_only() {
    let text = "SELECT r.booking, b.id, b.event_timestamp FROM rides r ASOF JOIN bookings b
        MATCH_CONDITION (r.at < b.event_timestamp) ON r.zone = b.zone EMIT AFTER WATERMARK";
    assert_eq!(as_of(text)[0].emit, Emit::AfterWatermark);
    let properties = planned(text).properties();
    assert!(!properties.changelog);
    let times: Vec<usize> = properties.time_columns.iter().map(|time| time.column).collect();
    assert_eq!(times, [2], "looking ahead, the time of what was found grows");
    let open = refusal(&format!("{} EMIT AFTER WATERMARK", matching("ASOF JOIN", "b.event_timestamp >= c.at")));
    assert!(open.message().contains("may still get a nearer one: c.at has no watermark"), "{open}");
    let corrected = refusal(
        "SELECT t.zone, b.id FROM totals t ASOF JOIN bookings b MATCH_CONDITION (t.total >= b.price) ON t.zone = b.zone
         EMIT AFTER WATERMARK",
    );
    assert!(corrected.message().contains("left side of this as-of join is still corrected"), "{corrected}");
}

#[test]
fn the_view_of_the_latest_rows_is_a_versioned_relation() {
    let latest = |keys: &str, join: &str| {
        format!(
            "WITH latest AS (SELECT booking, zone AS place, at FROM (
               SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY at DESC) AS n FROM rides) AS numbered WHERE n = 1)
             SELECT b.id, l.place FROM bookings b JOIN latest FOR SYSTEM_TIME AS OF b.event_timestamp AS l ON {join}"
        )
    };
    let plan = planned(&latest("booking", "b.id = l.booking"));
    assert!(!plan.explain().contains("row_number"), "{}", plan.explain());
    assert!(!plan.properties().changelog);
    for (keys, join) in [("booking, zone", "b.id = l.booking"), ("booking", "b.id = l.booking AND b.zone = l.place")] {
        let error = refusal(&latest(keys, join));
        assert!(error.message().contains("has the latest row of each"), "{error}");
    }
}

#[test]
fn conditions_that_are_not_equalities() {
    let join = |how: &str| {
        format!(
            "SELECT b.id, r.zone FROM bookings b {how} rides FOR SYSTEM_TIME AS OF b.event_timestamp AS r
             ON b.id = r.booking AND r.zone <> b.zone"
        )
    };
    // They are about the version that was found: none is looked for instead.
    assert_eq!(as_of(&join("JOIN")).len(), 1);
    assert!(explained(&join("JOIN")).contains("Filter r.\"zone\" <> b.\"zone\""), "{}", explained(&join("JOIN")));
    assert!(explained(&join("LEFT JOIN")).contains("CASE WHEN"), "{}", explained(&join("LEFT JOIN")));
}

#[test]
fn refused_by_name() {
    for (text, expected) in [
        (
            "SELECT * FROM rides FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01'",
            "behind the right side of a JOIN, and rides is none",
        ),
        (
            "SELECT b.id FROM bookings b RIGHT JOIN rides FOR SYSTEM_TIME AS OF b.event_timestamp AS r ON r.booking = b.id",
            "looks up rows of its right side",
        ),
        (
            "SELECT b.id FROM bookings b JOIN rides FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01' AS r ON r.booking = b.id",
            "is no event time of the left side",
        ),
        (
            "SELECT b.id FROM bookings b JOIN rides FOR SYSTEM_TIME AS OF b.event_timestamp AS r ON r.booking > b.id",
            "nothing says which versions of rides are of one thing",
        ),
        (
            "SELECT b.id FROM bookings b JOIN clicks FOR SYSTEM_TIME AS OF b.event_timestamp AS c ON c.id = b.id",
            "no column of clicks says when a row of it begins",
        ),
        (
            "SELECT b.id FROM bookings b JOIN totals FOR SYSTEM_TIME AS OF b.event_timestamp AS t ON t.zone = b.zone",
            "no column of totals says when a row of it begins",
        ),
        (
            "SELECT b.id FROM bookings b JOIN demand FOR SYSTEM_TIME AS OF b.event_timestamp AS d ON d.zone = b.zone",
            "cannot tell which of window_start and window_end",
        ),
        (
            "SELECT b.id FROM bookings b ASOF JOIN clicks c MATCH_CONDITION (b.zone >= c.zone) ON b.id = c.id",
            "finds the nearest row by a time or a number",
        ),
        (
            "SELECT b.id FROM bookings b ASOF JOIN clicks c MATCH_CONDITION (b.event_timestamp = c.at) ON b.id = c.id",
            "does not compare a time of the left side",
        ),
        (
            "SELECT b.id FROM bookings b ASOF JOIN clicks c MATCH_CONDITION (b.event_timestamp >= c.at) ON b.id < c.id",
            "compares columns of both sides by equality",
        ),
        ("SELECT b.id FROM bookings b ASOF JOIN clicks c ON b.id = c.id", "has no comparison of a time"),
        (
            "SELECT b.id FROM bookings b ASOF JOIN clicks FOR SYSTEM_TIME AS OF b.event_timestamp AS c ON b.id = c.id",
            "and this is both",
        ),
    ] {
        let error = refusal(text);
        assert!(error.message().contains(expected), "{text}: {error}");
        assert!(error.hint().is_some(), "{text}");
    }
}

#[test]
fn first_rows_for_each_row_outside() {
    let lateral = |within: &str| format!("SELECT b.id, l.id FROM bookings b LEFT JOIN LATERAL ({within}) AS l ON true");
    let text = lateral("SELECT c.id FROM clicks c WHERE c.zone = b.zone AND c.id > 3 ORDER BY c.at DESC LIMIT 2");
    insta::assert_snapshot!(explained(&text), @r#"
    Project b.id, l.id
         changelog
      -> Left join on b.zone = __key0, rows without a match shown at once and corrected
             changelog
             exchange by b.zone | __key0
             state: left rows, all of them: not bounded
             state: right rows, all of them: not bounded
        -> Scan stream bookings: id, zone
               append-only
        -> Project c.id AS id, __key0
               changelog
          -> Top 2 partition by __key0 order by c.at desc, c.id
                 changelog
                 exchange by __key0
                 state: the first 2 rows of each partition: not bounded
            -> Project c.id, c.at, c.zone AS __key0
                   append-only
              -> Filter clicks.id > 3 AND clicks."zone" IS NOT NULL
                     append-only
                -> Scan stream clicks: id, zone, at
                       append-only
    "#);
    // Not by equality alone: the values outside are joined in.
    let text = lateral(
        "SELECT c.id + b.id AS sum FROM clicks c WHERE c.at < b.event_timestamp ORDER BY c.id - b.id LIMIT 1 OFFSET 1",
    );
    let summed = explained(&text.replace("l.id", "l.sum"));
    for part in ["Distinct __outside.c0", "Rows 2 to 2", "IS NOT DISTINCT FROM"] {
        assert!(summed.contains(part), "{part}: {summed}");
    }
    let unordered = refusal(&lateral("SELECT c.id FROM clicks c WHERE c.zone = b.zone LIMIT 2"));
    assert!(unordered.message().contains("LIMIT without ORDER BY"), "{unordered}");
    let counted =
        explained(&lateral("SELECT count(*) AS id FROM clicks c WHERE c.at < b.event_timestamp ORDER BY 1 LIMIT 2"));
    assert!(counted.contains("Distinct b.event_timestamp"), "{counted}");
}
