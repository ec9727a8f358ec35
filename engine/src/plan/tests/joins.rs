//! What joins, subqueries and set operations become.

use super::super::flow::{Emit, FlowNode, FlowOp, JoinKind, SetKind};
use super::*;
use crate::time::WatermarkId;

/// The joins of a query's plan, inputs first.
fn joins(text: &str) -> Vec<(JoinKind, usize, bool)> {
    let plan = planned(text).flow;
    let kind = |node: &FlowNode| match &node.op {
        FlowOp::Join { kind, on, residual, .. } => Some((*kind, on.len(), residual.is_some())),
        _ => None,
    };
    plan.nodes.iter().filter_map(kind).collect()
}

fn root(text: &str) -> (bool, Vec<Vec<usize>>) {
    let properties = planned(text).properties();
    (properties.changelog, properties.keys)
}

#[test]
fn every_kind_of_join() {
    let on =
        |how: &str| format!("SELECT * FROM bookings b {how} rides r ON b.id = r.booking AND b.price > 2 * r.booking");
    assert_eq!(joins(&on("JOIN")), [(JoinKind::Inner, 1, true)]);
    assert_eq!(joins(&on("LEFT JOIN")), [(JoinKind::Left, 1, true)]);
    assert_eq!(joins(&on("RIGHT JOIN")), [(JoinKind::Right, 1, true)]);
    assert_eq!(joins(&on("FULL JOIN")), [(JoinKind::Full, 1, true)]);
    assert_eq!(joins(&on("LEFT SEMI JOIN")), [(JoinKind::LeftSemi, 1, true)]);
    assert_eq!(joins(&on("RIGHT ANTI JOIN")), [(JoinKind::LeftAnti, 1, true)]);
    assert_eq!(joins("SELECT * FROM bookings CROSS JOIN rides"), [(JoinKind::Inner, 0, false)]);
    assert_eq!(joins("SELECT b.id FROM bookings b, rides r WHERE b.id < r.booking"), [(JoinKind::Inner, 0, true)]);
    assert_eq!(joins("SELECT * FROM bookings NATURAL JOIN clicks"), [(JoinKind::Inner, 2, false)]);
    assert_eq!(joins("SELECT * FROM bookings LEFT JOIN clicks USING (id)"), [(JoinKind::Left, 1, false)]);
    assert_eq!(joins("SELECT * FROM bookings NATURAL FULL JOIN clicks"), [(JoinKind::Full, 2, false)]);
    // Rows without a match are filtered out again.
    assert_eq!(
        joins("SELECT b.id FROM bookings b LEFT JOIN rides r ON b.id = r.booking WHERE r.zone = 'a'"),
        [(JoinKind::Inner, 1, false)]
    );
}

/// Without equal columns the rows of one side go to every worker: one of which no row is shown without a match.
#[test]
fn the_replicated_side_of_a_join_without_keys() {
    let side = |text: &str| {
        let plan = planned(text).flow;
        let joins = plan.nodes.iter().enumerate().filter(|(_, node)| matches!(node.op, FlowOp::Join { .. }));
        joins.map(|(index, _)| plan.replicated_input(index)).collect::<Vec<_>>()
    };
    let on = |how: &str| format!("SELECT * FROM bookings b {how} rides r ON b.id < r.booking");
    for (how, replicated) in
        [("JOIN", 1), ("LEFT JOIN", 1), ("RIGHT JOIN", 0), ("LEFT SEMI JOIN", 1), ("LEFT ANTI JOIN", 1)]
    {
        assert_eq!(side(&on(how)), [Some(replicated)], "{how}");
        let whose = ["all columns of the right side", "all columns of the left side"][replicated];
        assert!(explained(&on(how)).contains(whose), "{}", explained(&on(how)));
    }
    assert_eq!(side(&on("FULL JOIN")), [None]);
    assert_eq!(side("SELECT * FROM bookings b JOIN rides r ON b.id = r.booking"), [None]);
    // What has a single row is small, on whichever side it stands.
    assert_eq!(
        side("SELECT b.id FROM (SELECT max(booking) AS m FROM rides) AS q JOIN bookings b ON b.id < q.m"),
        [Some(0)]
    );
}

#[test]
fn merged_columns() {
    let names = |text: &str| {
        let fields = planned(text).schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        fields.join(" ")
    };
    assert_eq!(names("SELECT * FROM clicks b RIGHT JOIN clicks a USING (zone, at)"), "zone at id id");
    assert_eq!(names("SELECT q.* FROM (clicks b FULL JOIN clicks a USING (zone, id)) AS q(w, x, y, z)"), "w x y z");
    assert_eq!(names("SELECT b.*, zone, a.zone FROM clicks b JOIN clicks a USING (zone)"), "id zone at zone zone");
    // Each join merges what the ones before it show.
    assert_eq!(
        names("SELECT * FROM clicks a JOIN clicks b USING (id) FULL JOIN clicks c USING (id) WHERE id > 3"),
        "id zone at zone at zone at"
    );
    // A later condition may name what was merged before.
    for (text, of) in [
        ("SELECT c.zone FROM clicks a JOIN clicks b USING (id) JOIN rides c ON id = booking", JoinKind::Inner),
        ("SELECT c.zone FROM clicks a FULL JOIN clicks b USING (id) LEFT JOIN rides c ON booking = id", JoinKind::Left),
        ("SELECT c.zone FROM rides c RIGHT JOIN (clicks a JOIN clicks b USING (id)) ON id = booking", JoinKind::Right),
        ("SELECT c.zone FROM clicks a NATURAL JOIN clicks b, rides c WHERE id = booking", JoinKind::Inner),
    ] {
        assert_eq!(joins(text).last(), Some(&(of, 1, false)), "{text}");
    }
    for (text, sentence) in [
        ("SELECT * FROM clicks a JOIN rides b USING (id)", "the right side of the join has no column id"),
        ("SELECT * FROM clicks a JOIN clicks b USING (id, id)", "USING names id twice"),
        ("SELECT * FROM clicks a CROSS JOIN clicks b JOIN clicks c USING (id)", "several columns id"),
        (
            "SELECT id FROM clicks a JOIN clicks b USING (id) JOIN clicks c ON true",
            "the column id could be one of several",
        ),
        (
            "SELECT 1 FROM clicks a JOIN clicks b USING (id) JOIN clicks c ON id = 3",
            "the column id could be one of several",
        ),
    ] {
        let error = refusal(text);
        assert!(error.message().contains(sentence), "{text}: {error}");
    }
}

#[test]
fn what_is_known_of_joined_rows() {
    let on = |how: &str| format!("SELECT t.*, d.n FROM totals t {how} demand d ON t.zone = d.zone");
    assert!(root(&on("LEFT JOIN")).0);
    // A zone has one total, and several windows.
    assert_eq!(root("SELECT d.*, t.total FROM demand d LEFT JOIN totals t ON d.zone = t.zone").1, [[0, 1, 2]]);
    assert_eq!(
        root("SELECT d.*, t.total FROM demand d RIGHT JOIN totals t ON d.zone = t.zone").1,
        Vec::<Vec<usize>>::new()
    );
    // Rows that were added to both sides match for ever.
    let semi = "SELECT id FROM bookings WHERE EXISTS (SELECT 1 FROM rides WHERE booking = id)";
    assert!(!root(semi).0);
    assert!(root(&semi.replace("EXISTS", "NOT EXISTS")).0);
}

#[test]
fn subqueries_become_joins() {
    use JoinKind::{Inner, LeftAnti, LeftMark, LeftSemi};
    let whose = |condition: &str| joins(&format!("SELECT id FROM bookings b WHERE {condition}"));
    assert_eq!(whose("id IN (SELECT booking FROM rides)"), [(LeftSemi, 1, false)]);
    assert_eq!(
        whose("NOT EXISTS (SELECT 1 FROM rides r WHERE r.booking = b.id AND r.zone < b.zone)"),
        [(LeftAnti, 1, true)]
    );
    assert_eq!(whose("price > 3 OR id IN (SELECT booking FROM rides)"), [(LeftMark, 1, false)]);
    // NULLs: first by key, then whether there are any.
    assert_eq!(whose("id NOT IN (SELECT booking FROM rides)"), [(LeftAnti, 1, false), (LeftAnti, 0, true)]);
    assert_eq!(whose("id NOT IN (SELECT booking FROM rides r WHERE r.zone = b.zone)"), [(LeftAnti, 1, true)]);
    let marks = whose("id > ALL (SELECT booking FROM rides)");
    let asked = |(kind, keys, residual): &(JoinKind, usize, bool)| {
        matches!(kind, LeftMark | LeftAnti) && *keys == 0 && *residual
    };
    assert!(marks.iter().all(asked) && marks.len() >= 2, "{marks:?}");
    assert_eq!(whose("price > (SELECT avg(id) FROM clicks c WHERE c.zone = b.zone)"), [(Inner, 1, true)]);
    let lateral =
        "SELECT b.id, l.n FROM bookings b, LATERAL (SELECT count(*) AS n FROM clicks c WHERE c.zone = b.zone) l";
    assert_eq!(joins(lateral), [(JoinKind::Left, 1, false)]);
}

/// A copy more of a key that many rows outside have must not cost a look at each of them.
#[test]
fn only_different_keys_of_a_subquery_are_kept() {
    let sets =
        |text: &str| planned(text).flow.nodes.iter().filter(|node| matches!(node.op, FlowOp::Set { .. })).count();
    assert_eq!(sets("SELECT id FROM bookings WHERE id IN (SELECT booking FROM rides)"), 1);
    assert_eq!(sets("SELECT id FROM bookings WHERE zone NOT IN (SELECT zone FROM rides WHERE zone IS NOT NULL)"), 1);
    // A view by zone has each zone once.
    assert_eq!(sets("SELECT id FROM bookings WHERE zone IN (SELECT zone FROM totals)"), 0);
}

#[test]
fn a_subquery_as_a_value_is_guarded_if_it_may_have_two_rows() {
    let guards = |text: &str| {
        let plan = planned(text).flow;
        plan.nodes.iter().filter(|node| matches!(node.op, FlowOp::SingleRow)).count()
    };
    assert_eq!(guards("SELECT id, (SELECT max(booking) FROM rides) FROM bookings"), 0);
    assert_eq!(guards("SELECT id, (SELECT booking FROM rides WHERE zone = 'a') AS r FROM bookings"), 1);
    assert_eq!(guards("SELECT id FROM bookings WHERE id = (SELECT booking FROM rides WHERE zone = 'a')"), 1);
}

/// ORDER BY … LIMIT in a subquery that names the row outside: a number within each key, or the first value.
#[test]
fn first_rows_of_each_row_outside() {
    let whose = |text: &str| {
        let plan = planned(text).flow;
        let named = |node: &FlowNode| match &node.op {
            FlowOp::Join { kind, on, .. } => Some(format!("{kind:?} {}", on.len())),
            FlowOp::Over { .. } => Some("Over".to_owned()),
            _ => None,
        };
        plan.nodes.iter().filter_map(named).collect::<Vec<_>>()
    };
    let lateral = |how: &str, limit: &str| {
        whose(&format!(
            "SELECT b.id, l.id AS click FROM bookings b {how} LATERAL
             (SELECT c.id FROM clicks c WHERE c.zone = b.zone AND c.id > 3 ORDER BY c.at DESC {limit}) AS l ON true"
        ))
    };
    assert_eq!(lateral("JOIN", "LIMIT 2"), ["Over", "Inner 1"]);
    assert_eq!(lateral("LEFT JOIN", "LIMIT 2 OFFSET 1"), ["Over", "Left 1"]);
    let value =
        "SELECT b.id, (SELECT c.id FROM clicks c WHERE c.zone = b.zone ORDER BY c.at LIMIT 1) AS first FROM bookings b";
    assert_eq!(whose(value), ["Left 1"]);
}

/// That nothing says it has one row at most is no reason to refuse it: a second row is an error when it comes.
#[test]
fn a_subquery_as_a_value_may_be_any_query() {
    use JoinKind::Left;
    let value = "SELECT b.id, (SELECT c.at FROM clicks c WHERE c.id = b.id) AS at FROM bookings b";
    assert_eq!(joins(value), [(Left, 1, false)]);
    assert_eq!(planned(value).schema.field(1).data_type(), &timestamp());
}

#[test]
fn the_types_of_a_query_are_those_of_its_rows() {
    let plan = planned("SELECT booking FROM rides UNION ALL SELECT price FROM bookings");
    assert_eq!(plan.schema.field(0).data_type(), &DataType::Float64);
    let plan = planned("SELECT round(price::NUMERIC(12, 4), 2) AS r FROM bookings");
    assert_eq!(Some(plan.schema.field(0).data_type()), plan.flow.root().map(|root| root.schema.field(0).data_type()));
    let plan = planned("SELECT CASE WHEN id > 3 THEN 1 ELSE price END AS c FROM bookings");
    assert_eq!(plan.schema.field(0).data_type(), &DataType::Float64);
}

/// A value that a subquery may not have is NULL, whatever its column is.
#[test]
fn a_subquery_as_a_value_may_be_null() {
    let plan =
        planned("SELECT zone, (SELECT n FROM demand d WHERE d.zone = t.zone ORDER BY n LIMIT 1) AS n FROM totals t");
    assert!(plan.schema.field(1).is_nullable());
}

#[test]
fn fetch_first_is_limit() {
    let root = |text: &str| planned(text).explain().lines().next().unwrap().to_owned();
    let limit = root("SELECT id FROM bookings ORDER BY price DESC LIMIT 3 OFFSET 1");
    assert_eq!(root("SELECT id FROM bookings ORDER BY price DESC OFFSET 1 ROWS FETCH FIRST 3 ROWS ONLY"), limit);
}

#[test]
fn exists_and_in_are_values_by_counts() {
    use JoinKind::Left;
    let exists = "SELECT id, EXISTS (SELECT 1 FROM rides WHERE booking = b.id) AS e FROM bookings b";
    assert_eq!(joins(exists), [(Left, 1, false)]);
    let within = joins("SELECT id, id IN (SELECT booking FROM rides) AS e FROM bookings b");
    assert_eq!(within.first(), Some(&(Left, 1, false)));
    assert!(within.len() >= 3 && within.iter().all(|(kind, ..)| *kind == Left), "{within:?}");
}

#[test]
fn set_operations() {
    let sets = |text: &str| {
        let plan = planned(text).flow;
        let kind = |node: &FlowNode| match node.op {
            FlowOp::Set { kind, .. } => Some(kind),
            _ => None,
        };
        (plan.nodes.iter().filter_map(kind).collect::<Vec<_>>(), plan.root().unwrap().properties.changelog)
    };
    let of = |word: &str| sets(&format!("SELECT id, zone FROM bookings {word} SELECT booking, zone FROM rides"));
    assert_eq!(of("INTERSECT"), (vec![SetKind::Intersect { all: false }], false));
    assert_eq!(of("INTERSECT ALL"), (vec![SetKind::Intersect { all: true }], false));
    assert_eq!(of("EXCEPT"), (vec![SetKind::Except { all: false }], true));
    assert_eq!(of("EXCEPT ALL"), (vec![SetKind::Except { all: true }], true));
    assert_eq!(sets("SELECT DISTINCT total FROM totals"), (vec![SetKind::Distinct], true));
    assert_eq!(sets("SELECT total FROM totals UNION SELECT price FROM bookings"), (vec![SetKind::Distinct], true));
    // Types that differ are compared in a common one; the result has the left one's.
    let plan = planned("SELECT at FROM clicks INTERSECT SELECT at FROM rides");
    assert_eq!(plan.schema.field(0).data_type(), &timestamp());
    let plan =
        planned("SELECT id FROM bookings WHERE zone IN (SELECT zone FROM rides INTERSECT ALL SELECT zone FROM clicks)");
    assert!(plan.flow.nodes.iter().any(|node| matches!(node.op, FlowOp::Set { .. })));
}

#[test]
fn intervals_let_rows_go() {
    let near = "SELECT b.event_timestamp, r.at FROM bookings b LEFT JOIN rides r
         ON b.id = r.booking AND r.at BETWEEN b.event_timestamp - INTERVAL '1' MINUTE AND b.event_timestamp + INTERVAL '2' MINUTE";
    let plan = planned(near).flow;
    let join = plan.nodes.iter().position(|node| matches!(node.op, FlowOp::Join { .. })).unwrap();
    let promises = join_release(&plan, join).map(|release| release?.promise());
    // A booking waits for rides up to two minutes after it, a ride for bookings up to one minute after.
    assert_eq!(promises, [Some((WatermarkId(1), 120_000_000)), Some((WatermarkId(0), 60_000_000))]);
    assert!(plan.root().unwrap().properties.changelog);
    let plan = planned(&format!("{near} EMIT AFTER WATERMARK")).flow;
    assert!(!plan.root().unwrap().properties.changelog);
    assert!(matches!(plan.nodes[join].op, FlowOp::Join { emit: Emit::AfterWatermark, .. }));
    // Either row may be the later one: both times grow with the slower stream, each less what it may lag.
    let times = &plan.root().unwrap().properties.time_columns;
    assert_eq!(times.iter().map(|time| time.column).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(plan.derived.len(), 2);
    // Without times nothing says when no match can come.
    let unbound = refusal("SELECT b.id FROM bookings b LEFT JOIN rides r ON b.id = r.booking EMIT AFTER WATERMARK");
    assert!(unbound.message().contains("may still get one"), "{unbound}");
}

#[test]
fn a_lateral_query_below_an_order_keeps_what_it_reads_of_the_rows_before_it() {
    for text in [
        "SELECT DISTINCT ON (b.zone) b.zone, l.most FROM bookings b,
           LATERAL (SELECT max(r.at) AS most FROM rides r WHERE r.booking = b.id) AS l ORDER BY b.zone",
        "SELECT b.zone, l.at FROM bookings b, LATERAL (SELECT r.at FROM rides r WHERE r.booking = b.id) AS l
         ORDER BY b.zone LIMIT 3",
        "SELECT b.zone, row_number() OVER (ORDER BY l.at) AS n FROM bookings b
         LEFT JOIN LATERAL (SELECT r.at FROM rides r WHERE r.booking = b.id) AS l ON true",
    ] {
        let plan = planned(text).flow;
        let join = plan.nodes.iter().find(|node| matches!(node.op, FlowOp::Join { .. })).unwrap();
        let FlowOp::Join { on, .. } = &join.op else { unreachable!() };
        assert_eq!(on.len(), 1, "{text}");
        for (side, key) in [&on[0].0, &on[0].1].into_iter().enumerate() {
            let schema = &plan.nodes[join.inputs[side]].schema;
            assert!(key.column_refs().into_iter().all(|column| schema.has_column(column)), "{text}: {key}");
        }
    }
}

#[test]
fn what_is_never_true_stays_above_an_aggregate_that_always_has_a_row() {
    let aggregates = |text: &str| {
        let plan = planned(text).flow;
        plan.nodes.iter().filter(|node| matches!(node.op, FlowOp::Aggregate { .. })).count()
    };
    assert_eq!(aggregates("SELECT b.id, r.n FROM bookings b JOIN (SELECT count(*) AS n FROM rides) r ON NOT true"), 0);
    assert_eq!(
        aggregates("SELECT b.id, r.n FROM bookings b LEFT JOIN (SELECT count(*) AS n FROM rides) r ON false"),
        0
    );
    assert_eq!(aggregates("SELECT b.id, r.n FROM bookings b LEFT JOIN (SELECT count(*) AS n FROM rides) r ON true"), 1);
    // The grouping of all rows is level 1.
    let sets = "SELECT n FROM (SELECT count(*) AS n, grouping(zone) AS level FROM bookings GROUP BY ROLLUP (zone)) WHERE level IN (0, 2)";
    assert_eq!(aggregates(sets), 1);
}

#[test]
fn exists_and_in_are_values_too() {
    for text in [
        "SELECT id, EXISTS (SELECT 1 FROM rides WHERE booking = id) FROM bookings",
        "SELECT id, NOT EXISTS (SELECT 1 FROM rides WHERE booking = id AND zone = 'a') AS lonely FROM bookings",
        "SELECT zone, count(*), zone IN (SELECT zone FROM rides) AS known FROM bookings GROUP BY zone",
        "SELECT id, CASE WHEN id NOT IN (SELECT booking FROM rides r WHERE r.zone = b.zone) THEN 'new' END FROM bookings b",
    ] {
        let plan = planned(text).flow;
        let kinds = plan.nodes.iter().filter_map(|node| match &node.op {
            FlowOp::Join { kind, .. } => Some(*kind),
            _ => None,
        });
        assert!(kinds.clone().count() > 0 && kinds.clone().all(|kind| kind == JoinKind::Left), "{text}");
    }
    assert_eq!(planned("SELECT EXISTS (SELECT 1 FROM rides) FROM bookings").schema.field(0).name(), "exists");
}

#[test]
fn distinct_rows_are_let_go_by_their_time() {
    let plan = planned(
        "SELECT DISTINCT window_end, n FROM (SELECT window_end, zone, count(*) AS n
         FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE) GROUP BY window_start, window_end, zone)",
    );
    assert!(plan.explain().contains("state: the different rows, released by watermark of bookings.event_timestamp"));
}
