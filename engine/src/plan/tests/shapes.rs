//! What the plan says to those who build it.

use datafusion::scalar::ScalarValue;

use crate::plan::flow::{Emit, FlowOp, FlowPlan};
use crate::time::{WatermarkId, Watermarks};

use super::*;

fn scans(plan: &FlowPlan) -> Vec<(String, Vec<usize>, bool)> {
    plan.nodes
        .iter()
        .filter_map(|node| match &node.op {
            FlowOp::Scan { relation, projection, watermark, .. } => {
                Some((relation.clone(), projection.clone(), watermark.is_some()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn scans_read_what_is_needed() {
    let read = |text: &str| scans(&planned(text).flow);
    assert_eq!(read("SELECT zone FROM bookings"), [("bookings".to_owned(), vec![1], false)]);
    assert_eq!(
        read(
            "SELECT zone, count(*) FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' DAY)
              WHERE price > 2 GROUP BY zone, window_end"
        ),
        [("bookings".to_owned(), vec![1, 2, 3], true)]
    );
    assert_eq!(read("SELECT count(*) FROM clicks"), [("clicks".to_owned(), vec![0], false)]);
    assert_eq!(read("SELECT zone FROM demand"), [("demand".to_owned(), vec![2], false)]);
}

/// The output of every node has the width that the plan says, its inputs stand before it, and expressions find their
/// columns.
#[test]
fn nodes_fit_together() {
    for text in [
        "SELECT b.id, r.zone FROM bookings b JOIN rides r ON b.id = r.booking",
        "SELECT zone, event_timestamp FROM bookings UNION ALL SELECT zone, at FROM rides",
        "SELECT x.zone FROM (SELECT b.zone, r.booking FROM bookings b, rides r WHERE b.id = r.booking) x WHERE x.booking > 3",
        "SELECT c.z, t.total FROM cheap c JOIN totals t ON c.z = t.zone",
    ] {
        let plan = planned(text).flow;
        for (index, node) in plan.nodes.iter().enumerate() {
            assert!(node.inputs.iter().all(|&input| input < index), "{text}");
            let inputs: Vec<_> = node.inputs.iter().map(|&input| &plan.nodes[input].schema).collect();
            let exprs: Vec<_> = match &node.op {
                FlowOp::Filter { predicate } => vec![(0, predicate)],
                FlowOp::Project { expressions } => expressions.iter().map(|expr| (0, expr)).collect(),
                FlowOp::Aggregate { group, .. } => group.iter().map(|expr| (0, expr)).collect(),
                FlowOp::Join { on, .. } => on.iter().flat_map(|(left, right)| [(0, left), (1, right)]).collect(),
                _ => Vec::new(),
            };
            for (input, expr) in exprs {
                for column in expr.column_refs() {
                    assert!(inputs[input].has_column(column), "{text}: {column} in {:?}", inputs[input]);
                }
            }
            if let FlowOp::Union = node.op {
                for input in inputs {
                    let types = |schema: &datafusion::common::DFSchemaRef| {
                        schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>()
                    };
                    assert_eq!(types(input), types(&node.schema), "{text}");
                }
            }
        }
    }
}

#[test]
fn identities() {
    let ids = |text: &str| planned(text).flow.nodes.into_iter().map(|node| node.id).collect::<Vec<_>>();
    let one = ids("SELECT zone, count(*) FROM bookings GROUP BY zone");
    let other = ids("SELECT zone, count(*), max(price) FROM bookings GROUP BY zone");
    assert_eq!(one[0], other[0]);
    assert_eq!(one[1], other[1], "another aggregate in the list keeps the identity");
    let by_id = ids("SELECT id, count(*) FROM bookings GROUP BY id");
    assert_ne!(one[1], by_id[1], "another key is another operator");
    let twice = ids("SELECT a.id FROM clicks a JOIN (SELECT id, zone FROM clicks) b ON a.id = b.id AND b.zone > 'k'");
    let mut unique = twice.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), twice.len(), "{twice:?}");
    assert_eq!(ids("SELECT id FROM clicks"), ids("SELECT id FROM clicks"));
    // Frozen: state is found by it.
    assert_eq!(one[0], "scan-e5f6e8f84d3342a1");
}

#[test]
fn a_view_passes_its_watermark_on() {
    let view = planned(
        "SELECT window_start, window_end, count(*) FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
         GROUP BY window_start, window_end EMIT AFTER WATERMARK",
    );
    assert_eq!(view.emit, Emit::AfterWatermark);
    assert_eq!(view.passed_on(), Some((WatermarkId(0), vec![(0, 60_000_000), (1, 0)])));
    let relation = view.relation("v");
    assert!(!relation.changelog);
    assert_eq!(relation.keys, [[0, 1]]);
    assert_eq!(view.reads, ["bookings"]);
    assert_eq!(planned("SELECT z FROM cheap").reads, ["bookings", "cheap"]);
}

#[test]
fn derived_watermarks_are_the_least() {
    let plan =
        planned("SELECT event_timestamp AS t FROM bookings UNION ALL SELECT at - INTERVAL '1' SECOND FROM rides").flow;
    assert_eq!((plan.watermarks.len(), plan.derived.len(), plan.watermark_count()), (2, 1, 3));
    let mut watermarks = Watermarks::none(plan.watermark_count());
    watermarks.advance(WatermarkId(0), 5_000_000);
    plan.derive_watermarks(&mut watermarks);
    assert_eq!(watermarks.get(WatermarkId(2)), None);
    watermarks.advance(WatermarkId(1), 5_500_000);
    plan.derive_watermarks(&mut watermarks);
    assert_eq!(watermarks.get(WatermarkId(2)), Some(4_500_000));
    watermarks.advance(WatermarkId(1), i64::MAX);
    plan.derive_watermarks(&mut watermarks);
    assert_eq!(watermarks.get(WatermarkId(2)), Some(5_000_000));
    watermarks.advance(WatermarkId(0), i64::MAX);
    plan.derive_watermarks(&mut watermarks);
    assert_eq!(watermarks.get(WatermarkId(2)), Some(i64::MAX));
}

#[test]
fn joins_release_their_rows() {
    let plan =
        planned("SELECT a.window_end FROM demand a JOIN rides r ON a.window_end = r.at AND a.zone = r.zone").flow;
    let join = plan.nodes.iter().position(|node| matches!(node.op, FlowOp::Join { .. })).unwrap();
    let promises = |join| join_release(&plan, join).map(|release| release?.promise());
    assert_eq!(promises(join), [Some((WatermarkId(1), 0)), Some((WatermarkId(0), 0))]);
    let plan = planned("SELECT b.id FROM bookings b JOIN rides r ON b.id = r.booking").flow;
    assert!((0..plan.nodes.len()).all(|node| join_release(&plan, node) == [None, None]));
}

#[test]
fn watermarks_are_validated() {
    let relation = catalog().relation("bookings").unwrap();
    let validate = |text: &str| {
        let statement = sql::parse_one(&format!("CREATE STREAM s (\n{text})")).unwrap().statement;
        let Statement::CreateStream(create) = statement else { panic!("a stream") };
        planner().validate_watermark(&relation.schema, &create.watermark.unwrap())
    };
    for text in [
        "WATERMARK FOR event_timestamp AS event_timestamp",
        "WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '1' HOUR",
        "WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '1 day 3 seconds'",
    ] {
        assert_eq!(validate(text).unwrap().column, 3, "{text}");
    }
    let refused = |text: &str| {
        let error = validate(text).expect_err(text);
        assert_eq!(error.position().map(|position| position.line), Some(2), "{error}");
        format!("{} | {}", error.message(), error.hint().unwrap_or("no hint"))
    };
    insta::assert_snapshot!(refused("WATERMARK FOR zone AS zone"), @r"WATERMARK FOR zone: the column is no timestamp but Utf8 | name a column of type TIMESTAMP");
    insta::assert_snapshot!(refused("WATERMARK FOR tme AS tme"), @r"WATERMARK FOR tme: there is no such column | columns here: id, zone, price, event_timestamp, note");
    insta::assert_snapshot!(refused("WATERMARK FOR event_timestamp AS id"), @r"WATERMARK FOR event_timestamp: id is no timestamp but Int64 | write event_timestamp - INTERVAL '10' SECOND");
    insta::assert_snapshot!(refused("WATERMARK FOR event_timestamp AS event_timestamp + INTERVAL '1' HOUR"), @r"WATERMARK FOR event_timestamp: event_timestamp + INTERVAL '1' HOUR does not follow event_timestamp at a fixed distance | write event_timestamp, or event_timestamp - INTERVAL '10' SECOND");
    insta::assert_snapshot!(refused("WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '1' MONTH"), @r"WATERMARK FOR event_timestamp: event_timestamp - INTERVAL '1' MONTH does not follow event_timestamp at a fixed distance | write event_timestamp, or event_timestamp - INTERVAL '10' SECOND");
    insta::assert_snapshot!(refused("WATERMARK FOR event_timestamp AS nosuch - INTERVAL '1' HOUR"), @r"there is no column nosuch | columns here: id, zone, price, event_timestamp, note");
    insta::assert_snapshot!(refused("WATERMARK FOR event_timestamp AS to_timestamp(id)"), @r"WATERMARK FOR event_timestamp: to_timestamp(id) does not follow event_timestamp at a fixed distance | write event_timestamp, or event_timestamp - INTERVAL '10' SECOND");
}

#[test]
fn views_need_names() {
    let create = |text: &str| {
        let Statement::CreateView(view) = sql::parse_one(text).unwrap().statement else { panic!("a view") };
        if view.materialized {
            planner().plan_materialized_view(&view).map(|_| ())
        } else {
            planner().plan_view(&view).map(|_| ())
        }
    };
    let twice = "AS SELECT b.zone, r.zone FROM bookings b JOIN rides r ON b.id = r.booking";
    assert_eq!(
        create(&format!("CREATE VIEW v {twice}")).unwrap_err().message(),
        "column \"zone\" specified more than once"
    );
    assert_eq!(
        create(&format!("CREATE MATERIALIZED VIEW v {twice}")).unwrap_err().message(),
        "column \"zone\" specified more than once"
    );
    create(&format!("CREATE MATERIALIZED VIEW v (a, b) {twice}")).unwrap();
    create("CREATE VIEW v (a) AS SELECT id, zone FROM bookings").unwrap();
    assert!(create("CREATE VIEW v (a, b, c) AS SELECT id, zone FROM bookings").is_err());
    assert!(create("CREATE VIEW v AS SELECT id FROM bookings EMIT AFTER WATERMARK").is_err());
    // A plain view may hold what only a snapshot can run.
    create("CREATE VIEW v AS SELECT id FROM bookings ORDER BY id LIMIT 1").unwrap();
}

#[test]
fn parameters() {
    let query = sql::parse_query("SELECT id FROM bookings WHERE zone = $1 AND price > $2").unwrap();
    let plan = planner().plan_batch(&query, None).unwrap();
    let mut types: Vec<_> = plan.get_parameter_types().unwrap().into_iter().collect();
    types.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(types, [("$1".to_owned(), Some(DataType::Utf8)), ("$2".to_owned(), Some(DataType::Float64))]);
    let values = [ScalarValue::from("a"), ScalarValue::Float64(Some(2.0))];
    let plan = planner().plan_batch(&query, Some(&values)).unwrap();
    assert!(plan.get_parameter_types().unwrap().is_empty());
}

#[test]
fn columns() {
    let Statement::CreateStream(create) =
        sql::parse_one("CREATE STREAM s (a BIGINT, b TEXT NOT NULL, t TIMESTAMP, z TIMESTAMPTZ, n DOUBLE PRECISION)")
            .unwrap()
            .statement
    else {
        panic!("a stream")
    };
    let schema = planner().column_schema(&create.columns).unwrap();
    let types: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{}: {} {}", field.name(), field.data_type(), field.is_nullable()))
        .collect();
    insta::assert_snapshot!(types.join(", "), @r#"a: Int64 true, b: Utf8 false, t: Timestamp(µs) true, z: Timestamp(µs, "+00:00") true, n: Float64 true"#);
}

#[test]
fn conditions_on_the_time_of_day() {
    insta::assert_snapshot!(explained("SELECT id FROM bookings WHERE event_timestamp > now() - INTERVAL '5' MINUTE AND price > 3"), @r"
    Project bookings.id
         changelog
      -> Temporal filter CAST(bookings.event_timestamp AS TIMESTAMP WITH TIME ZONE) > now() - INTERVAL '5 MINS'
             changelog
             state: rows that the time has not passed, each released when it has
        -> Filter bookings.price > 3.0
               append-only
          -> Scan stream bookings: id, price, event_timestamp
                 append-only
    ");
    let enters = explained("SELECT id FROM bookings WHERE event_timestamp <= now()");
    assert!(!enters.contains("changelog"), "what only enters is never taken back: {enters}");
    assert!(enters.contains("state: rows that are not shown yet, each released when it is"), "{enters}");
    let joined = explained(
        "SELECT b.id, r.zone FROM bookings b JOIN rides r ON b.id = r.booking
          WHERE b.event_timestamp > now() - INTERVAL '1' HOUR AND r.at > now() - INTERVAL '1' HOUR",
    );
    let (join, filter) = (joined.find("Inner join").unwrap(), joined.find("Temporal filter").unwrap());
    assert!(join < filter && joined.matches("Temporal filter").count() == 2, "rows leave the join's state: {joined}");
    let quiet = explained(
        "SELECT zone, max(event_timestamp) FROM bookings GROUP BY zone
          HAVING max(event_timestamp) BETWEEN now() - INTERVAL '1' DAY AND now()",
    );
    assert_eq!(quiet.matches("Temporal filter").count(), 1, "{quiet}");
    assert!(quiet.find("Temporal filter").unwrap() < quiet.find("Aggregate by").unwrap(), "{quiet}");
}

#[test]
fn a_moved_now_is_computed_and_others_are_looked_for() {
    let bounds = |condition: &str| -> Vec<(bool, Option<i64>)> {
        let plan = planned(&format!("SELECT id FROM bookings WHERE {condition}"));
        let bounds = plan.flow.nodes.iter().find_map(|node| match &node.op {
            FlowOp::TemporalFilter { bounds, .. } => Some(bounds.clone()),
            _ => None,
        });
        let bounds = bounds.unwrap_or_else(|| panic!("{condition}"));
        bounds.into_iter().map(|bound| (bound.enters, bound.at.map(|(_, later)| later))).collect()
    };
    assert_eq!(bounds("event_timestamp > now() - INTERVAL '5' SECOND"), [(false, Some(5_000_000))]);
    assert_eq!(bounds("event_timestamp >= now() - INTERVAL '5' SECOND"), [(false, Some(5_000_001))]);
    assert_eq!(bounds("event_timestamp < localtimestamp"), [(true, Some(1))]);
    assert_eq!(bounds("now() + INTERVAL '1' SECOND >= event_timestamp"), [(true, Some(-1_000_000))]);
    assert_eq!(bounds("now() - event_timestamp < INTERVAL '1' DAY"), [(false, Some(0))]);
    assert_eq!(bounds("event_timestamp = now()"), [(false, Some(1)), (true, Some(0))]);
    assert_eq!(bounds("CAST(event_timestamp AS DATE) = current_date"), [(false, None), (true, None)]);
    assert_eq!(bounds("id < CAST(date_part('epoch', now()) AS BIGINT) * 1000 - 5"), [(true, None)]);
    assert_eq!(bounds("id < -CAST(date_part('epoch', now()) AS BIGINT)"), [(false, None)]);
}
