//! What of rows in rows a plan reads.

use crate::plan::flow::{FlowNode, FlowOp, FlowPlan};
use crate::schema::Leaves;

use super::*;

/// A stream of trips, whose places are rows.
fn planned_over_trips(text: &str) -> FlowPlan {
    let more =
        DataType::Struct(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)].into());
    let place = DataType::Struct(
        vec![
            Field::new("zone", DataType::Utf8, true),
            Field::new("lat", DataType::Float64, true),
            Field::new("more", more, true),
        ]
        .into(),
    );
    let columns = vec![("id", DataType::Int64), ("pickup", place.clone()), ("dropoff", place), ("at", timestamp())];
    let mut catalog = catalog();
    let trips = stream("trips", columns, Some((3, "at - INTERVAL '1' SECOND")));
    catalog.0.insert("trips".to_owned(), Arc::new(trips));
    let planner = Planner::new(Arc::new(catalog), Arc::new(Functions::builtin()));
    planner.plan_continuous(&sql::parse_query(text).unwrap()).unwrap_or_else(|error| panic!("{text}: {error}")).flow
}

fn words(leaves: &Leaves) -> String {
    match leaves {
        Leaves::Whole => "*".to_owned(),
        Leaves::Fields(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, leaves)| format!("{name}{}", words(leaves))).collect();
            format!("{{{}}}", fields.join(" "))
        }
    }
}

/// What is read of the trips, column by column.
fn read(text: &str) -> Vec<String> {
    let plan = planned_over_trips(text);
    let leaves = plan.leaves().unwrap();
    let scan = |node: &FlowNode| matches!(&node.op, FlowOp::Scan { relation, .. } if relation == "trips");
    let scan = plan.nodes.iter().position(scan).unwrap();
    let names = plan.nodes[scan].schema.fields().iter().map(|field| field.name().clone());
    names.zip(&leaves[scan]).map(|(name, leaves)| format!("{name} {}", words(leaves))).collect()
}

#[test]
fn fields_that_a_query_names_are_read() {
    assert_eq!(
        read("SELECT pickup.zone FROM trips WHERE dropoff.lat > 1 AND pickup.more.a = 2"),
        ["pickup {more{a*} zone*}", "dropoff {lat*}"]
    );
    assert_eq!(read("SELECT pickup FROM trips WHERE pickup.lat > 1"), ["pickup *"]);
    assert_eq!(read("SELECT id FROM trips WHERE pickup IS NOT NULL"), ["id *", "pickup *"]);
    assert_eq!(
        read("SELECT p.zone FROM (SELECT pickup AS p, id FROM trips) x WHERE id > 3"),
        ["id *", "pickup {zone*}"]
    );
    assert_eq!(read("SELECT pickup.more FROM trips"), ["pickup {more*}"]);
}

#[test]
fn what_aggregates_and_joins_take_is_read() {
    assert_eq!(
        read("SELECT pickup.zone, max(dropoff.lat) FROM trips GROUP BY pickup.zone"),
        ["pickup {zone*}", "dropoff {lat*}"]
    );
    assert_eq!(
        read(
            "SELECT pickup.zone, count(*) FROM TUMBLE(TABLE trips, DESCRIPTOR(at), INTERVAL '1' MINUTE)
             GROUP BY pickup.zone, window_end"
        ),
        ["pickup {zone*}", "at *"]
    );
    assert_eq!(
        read(
            "SELECT t.pickup.more.a, r.zone FROM trips t JOIN clicks r ON t.dropoff.zone = r.zone AND t.pickup.lat > r.id"
        ),
        ["pickup {lat* more{a*}}", "dropoff {zone*}"]
    );
    // A row that is there in full.
    assert_eq!(read("SELECT DISTINCT pickup FROM trips"), ["pickup *"]);
}
