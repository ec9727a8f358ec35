use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use proptest::prelude::*;

use super::windows::windows_of;
use super::*;
use crate::error::ErrorKind;
use crate::plan::flow::WindowSpec;
use crate::plan::{Functions, Planner, RelationKind, Relations, WatermarkDefinition};
use crate::sql;

const NOW: i64 = 1_700_000_000_000_000;

/// Relations with their rows.
struct Tables(HashMap<String, (Arc<Relation>, RecordBatch)>);

impl Relations for Tables {
    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        self.0.get(name).map(|(relation, _)| Arc::clone(relation))
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl BatchScans for Tables {
    fn scan(&self, relation: &Relation, projection: &[usize]) -> Result<SendableRecordBatchStream> {
        let rows = self.0[&relation.name].1.project(projection)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(rows.schema(), futures::stream::iter([Ok(rows)]))))
    }
}

/// A stream `t(at, zone, price, id)` of four rows, one without a time.
fn tables() -> Arc<Tables> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(30_000_000), Some(90_000_000), None, Some(-1)]))),
        ("zone", Arc::new(StringArray::from(vec![Some("b"), Some("a"), Some("a"), None]))),
        ("price", Arc::new(Float64Array::from(vec![1.5, 2.0, 4.0, 8.0]))),
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
    ];
    let rows =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let relation = Relation {
        name: "t".to_owned(),
        schema: rows.schema(),
        kind: RelationKind::Stream,
        changelog: false,
        keys: Vec::new(),
        watermark: Some(WatermarkDefinition { column: 0, expression: "at".to_owned() }),
        time_columns: Vec::new(),
    };
    Arc::new(Tables(HashMap::from([("t".to_owned(), (Arc::new(relation), rows))])))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn run(text: &str, parameters: Option<&[ScalarValue]>, memory_bytes: usize) -> Result<Vec<RecordBatch>> {
    let functions = Arc::new(Functions::builtin());
    let tables = tables();
    let planner = Planner::new(Arc::clone(&tables) as Arc<dyn Relations>, Arc::clone(&functions));
    let plan = planner.plan_batch(&sql::parse_query(text)?, parameters)?;
    let context = BatchContext::new(&functions, 1);
    runtime().block_on(async {
        let stream = context.execute(&plan, tables, NOW, memory_bytes).await?;
        Ok(stream.try_collect().await?)
    })
}

fn answer(text: &str) -> String {
    let batches = run(text, None, 64 << 20).unwrap_or_else(|error| panic!("{text}: {error} {:?}", error.detail()));
    pretty_format_batches(&batches).unwrap().to_string()
}

#[test]
fn the_first_rows_of_a_union_are_of_all_its_inputs() {
    insta::assert_snapshot!(answer(
        "SELECT tag, id FROM (SELECT 1 AS tag, id FROM t UNION ALL SELECT 3, id FROM t UNION ALL SELECT 2, id FROM t) u
         ORDER BY tag DESC, id LIMIT 6"
    ), @r"
+-----+----+
| tag | id |
+-----+----+
| 3   | 1  |
| 3   | 2  |
| 3   | 3  |
| 3   | 4  |
| 2   | 1  |
| 2   | 2  |
+-----+----+
");
    insta::assert_snapshot!(answer(
        "SELECT grouping(zone) AS all_zones, zone, count(*) AS n FROM t GROUP BY ROLLUP (zone) ORDER BY grouping(zone) DESC, zone LIMIT 2"
    ), @r"
+-----------+------+---+
| all_zones | zone | n |
+-----------+------+---+
| 1         |      | 4 |
| 0         | a    | 2 |
+-----------+------+---+
");
}

#[test]
fn windows_in_sql() {
    insta::assert_snapshot!(answer(
        "SELECT window_start, window_end, zone, count(*) AS n FROM TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1' MINUTE)
         GROUP BY window_start, window_end, zone ORDER BY window_start, zone EMIT AFTER WATERMARK"
    ), @r"
+---------------------+---------------------+------+---+
| window_start        | window_end          | zone | n |
+---------------------+---------------------+------+---+
| 1969-12-31T23:59:00 | 1970-01-01T00:00:00 |      | 1 |
| 1970-01-01T00:00:00 | 1970-01-01T00:01:00 | b    | 1 |
| 1970-01-01T00:01:00 | 1970-01-01T00:02:00 | a    | 1 |
+---------------------+---------------------+------+---+
");
    insta::assert_snapshot!(answer(
        "SELECT w.id, w.window_end FROM HOP(TABLE t, DESCRIPTOR(at), INTERVAL '30' SECOND, INTERVAL '1' MINUTE) w
         WHERE w.price < 3 ORDER BY 1, 2"
    ), @r"
+----+---------------------+
| id | window_end          |
+----+---------------------+
| 1  | 1970-01-01T00:01:00 |
| 1  | 1970-01-01T00:01:30 |
| 2  | 1970-01-01T00:02:00 |
| 2  | 1970-01-01T00:02:30 |
+----+---------------------+
");
    insta::assert_snapshot!(answer(
        "SELECT max(n) FROM (SELECT window_end, count(*) AS n
           FROM CUMULATE(TABLE t, DESCRIPTOR(at), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE) GROUP BY window_start, window_end)"
    ), @r"
+-----+
| max |
+-----+
| 2   |
+-----+
");
    // A window inside a subquery that is a value.
    insta::assert_snapshot!(answer(
        "SELECT (SELECT count(*) FROM TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1' MINUTE)) AS n"
    ), @r"
+---+
| n |
+---+
| 3 |
+---+
");
}

#[test]
fn right_joins_are_filtered() {
    // DataFusion's FilterPushdown asks the right side for what must hold of the left one's columns of the same names.
    let rows = run(
        "SELECT a.id, a.zone FROM t a RIGHT JOIN (SELECT id, zone FROM t) b ON a.id = b.id AND a.zone = b.zone AND a.price > 3
         WHERE nullif(a.id, 9) IN (0, 2, -1)",
        None,
        64 << 20,
    );
    assert_eq!(rows.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
}

#[test]
fn joins_whose_nulls_are_equal_and_others_stay_apart() {
    // DataFusion's EliminateCrossJoin gives all joins that it flattens what the topmost says of NULLs.
    for (query, count) in [
        ("FROM t a JOIN t b ON a.zone IS NOT DISTINCT FROM b.zone JOIN t c ON a.id = c.id", 6),
        ("FROM t a JOIN t b ON a.zone = b.zone JOIN t c ON a.at IS NOT DISTINCT FROM c.at", 5),
        ("FROM t a JOIN t b ON a.at IS NOT DISTINCT FROM b.at, t c WHERE a.zone = c.zone", 5),
        ("FROM t a JOIN t b ON a.at IS NOT DISTINCT FROM b.at WHERE a.zone = b.zone", 3),
        ("FROM t a JOIN t b ON a.at IS NOT DISTINCT FROM b.at JOIN t c ON b.zone IS NOT DISTINCT FROM c.zone", 6),
    ] {
        let rows = answer(&format!("SELECT count(*) AS n {query}"));
        assert!(rows.contains(&format!("\n| {count} |\n")), "{query}\n{rows}");
    }
}

#[test]
fn rows_without_a_key_have_all_their_peers_in_a_frame_before_them() {
    // More rows than DataFusion takes at a time: 5,000 with the key 1, and 5,000 without one.
    let of = |frame: &str| {
        answer(&format!(
            "SELECT k, n, count(*) AS rows FROM (
               SELECT k, count(*) OVER (ORDER BY k RANGE BETWEEN {frame}) AS n FROM (
                 SELECT CASE WHEN v <= 5000 THEN 1 END AS k FROM (SELECT unnest(range(1, 10001)) AS v) a) b) c
             GROUP BY k, n ORDER BY k, n"
        ))
    };
    insta::assert_snapshot!(of("UNBOUNDED PRECEDING AND 1 PRECEDING"), @r"
+---+-------+------+
| k | n     | rows |
+---+-------+------+
| 1 | 0     | 5000 |
|   | 10000 | 5000 |
+---+-------+------+
");
    insta::assert_snapshot!(of("2 PRECEDING AND 1 PRECEDING"), @r"
+---+------+------+
| k | n    | rows |
+---+------+------+
| 1 | 0    | 5000 |
|   | 5000 | 5000 |
+---+------+------+
");
}

#[test]
fn lists_over_rows_in_the_opposite_order_are_in_order() {
    insta::assert_snapshot!(answer(
        "SELECT n, array_agg(n) OVER (ORDER BY n DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS a,
           string_agg(CAST(n AS TEXT), '-') OVER (ORDER BY n DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING) AS s
         FROM (SELECT count(*) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS n FROM t) a ORDER BY n"
    ), @r"
+---+--------------+---------+
| n | a            | s       |
+---+--------------+---------+
| 1 | [4, 3, 2, 1] | 4-3-2-1 |
| 2 | [4, 3, 2]    | 4-3-2-1 |
| 3 | [4, 3]       | 4-3-2   |
| 4 | [4]          | 4-3     |
+---+--------------+---------+
");
}

#[test]
fn keys_may_differ_by_a_cast_alone() {
    let rows = run(
        "SELECT id, CAST(id AS DOUBLE) AS f, count(*) AS n FROM t GROUP BY CUBE(id, CAST(id AS DOUBLE))",
        None,
        64 << 20,
    );
    assert_eq!(rows.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 13);
}

#[test]
fn a_column_with_one_value_has_another_in_grouping_sets() {
    insta::assert_snapshot!(answer(
        "SELECT zone, id, count(*) AS n, grouping(zone) AS g FROM t WHERE zone = 'a' GROUP BY CUBE(zone, id) ORDER BY zone, g, id"
    ), @r"
+------+----+---+---+
| zone | id | n | g |
+------+----+---+---+
| a    | 2  | 1 | 0 |
| a    | 3  | 1 | 0 |
| a    |    | 2 | 0 |
|      | 2  | 1 | 1 |
|      | 3  | 1 | 1 |
|      |    | 2 | 1 |
+------+----+---+---+
");
    insta::assert_snapshot!(answer(
        "SELECT c, zone, count(*) AS n FROM (SELECT 7 AS c, zone FROM t UNION ALL SELECT 7, zone FROM t) x
         GROUP BY GROUPING SETS ((zone, c), (zone)) ORDER BY c, zone"
    ), @r"
+---+------+---+
| c | zone | n |
+---+------+---+
| 7 | a    | 4 |
| 7 | b    | 2 |
| 7 |      | 2 |
|   | a    | 4 |
|   | b    | 2 |
|   |      | 2 |
+---+------+---+
");
}

#[test]
fn the_canonical_form_is_run() {
    insta::assert_snapshot!(answer(
        "SELECT array_agg(zone) AS z, string_agg(zone, '-') AS s, any_value(zone) AS any, array_agg(id ORDER BY zone) AS i,
           first_value(id ORDER BY zone) AS f FROM t"
    ), @r"
+-------------+-------+-----+--------------+---+
| z           | s     | any | i            | f |
+-------------+-------+-----+--------------+---+
| [a, a, b, ] | a-a-b | a   | [2, 3, 1, 4] | 2 |
+-------------+-------+-----+--------------+---+
");
}

#[test]
fn conditions_without_columns_stay_above_an_aggregate_of_all_rows() {
    // Below it they would leave a row: that of nothing.
    for query in [
        "SELECT n FROM (SELECT count(*) AS n FROM t) WHERE coalesce(1 IS NULL, true)",
        "SELECT x FROM (SELECT abs(1) AS x FROM (SELECT max(id) AS m FROM t) a) b WHERE coalesce(x IS NULL, true)",
        "SELECT m FROM (SELECT max(id) AS m FROM t) a JOIN t ON false",
    ] {
        let rows = run(query, None, 64 << 20).unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 0, "{query}");
    }
}

#[test]
fn merged_columns_have_the_value_of_the_side_that_has_a_row() {
    let joined = |how: &str| {
        answer(&format!(
            "SELECT *, z.k AS zk FROM (VALUES (1, 'a'), (2, 'b')) z(k, x) {how} (VALUES (2, 'c'), (3, 'd')) a(k, y) USING (k) ORDER BY k"
        ))
    };
    insta::assert_snapshot!(joined("FULL JOIN"), @r"
+---+---+---+----+
| k | x | y | zk |
+---+---+---+----+
| 1 | a |   | 1  |
| 2 | b | c | 2  |
| 3 |   | d |    |
+---+---+---+----+
");
    insta::assert_snapshot!(joined("RIGHT JOIN"), @r"
+---+---+---+----+
| k | x | y | zk |
+---+---+---+----+
| 2 | b | c | 2  |
| 3 |   | d |    |
+---+---+---+----+
");
    insta::assert_snapshot!(joined("LEFT JOIN"), @r"
+---+---+---+----+
| k | x | y | zk |
+---+---+---+----+
| 1 | a |   | 1  |
| 2 | b | c | 2  |
+---+---+---+----+
");
    insta::assert_snapshot!(answer(
        "SELECT k, count(*) AS n FROM (VALUES (1), (2)) a(k) NATURAL FULL JOIN (VALUES (2), (3)) b(k) NATURAL FULL JOIN (VALUES (3), (4)) c(k)
         WHERE k > 1 GROUP BY k ORDER BY k"
    ), @r"
+---+---+
| k | n |
+---+---+
| 2 | 1 |
| 3 | 1 |
| 4 | 1 |
+---+---+
");
}

#[test]
fn lead_counts_the_nulls_that_it_ignores() {
    let shown = answer(
        "SELECT i, lead(x, 2, 0) IGNORE NULLS OVER (ORDER BY i) AS next, lag(x, 2, 0) IGNORE NULLS OVER (ORDER BY i) AS last
         FROM (VALUES (1, 1), (2, NULL), (3, 3), (4, NULL), (5, NULL), (6, 6), (7, NULL), (8, 8), (9, NULL), (10, 10)) v(i, x)
         ORDER BY i",
    );
    let rows = shown.lines().filter(|line| line.starts_with("| ")).skip(1);
    let found: Vec<String> = rows.map(|row| row.split_whitespace().collect::<String>().replace("||", "|")).collect();
    let expected = ["1|6|0", "2|6|0", "3|8|0", "4|8|1", "5|8|1", "6|10|1", "7|10|3", "8|0|3", "9|0|6", "10|0|6"]
        .map(|row| format!("|{row}|"));
    assert_eq!(found, expected);
}

#[test]
fn aggregates_are_not_turned_round() {
    let shown = answer(
        "SELECT array_agg(DISTINCT id ORDER BY id) AS a, array_agg(DISTINCT id ORDER BY id DESC) AS b,
           nth_value(id, 2 ORDER BY id DESC) AS c, nth_value(id, 9 ORDER BY id DESC) AS d,
           string_agg(DISTINCT zone, '-' ORDER BY zone DESC) FILTER (WHERE id < 4) AS e,
           string_agg(DISTINCT zone, '-' ORDER BY zone DESC) FILTER (WHERE id > 3) AS f, count(*) AS n
         FROM (SELECT id, zone FROM t ORDER BY id LIMIT 9)",
    );
    assert!(shown.contains("| [1, 2, 3, 4] | [4, 3, 2, 1] | 3 |   | b-a |   | 4 |"), "{shown}");
    // Each by the order of its input.
    let shown = answer(
        "SELECT array_agg(DISTINCT zone ORDER BY zone DESC) AS z FROM (SELECT zone FROM t ORDER BY zone LIMIT 9)",
    );
    assert!(shown.contains("| [, b, a] |"), "{shown}");
    let shown = answer("SELECT nth_value(id, 2 ORDER BY id DESC) AS n FROM (SELECT id FROM t ORDER BY id LIMIT 9)");
    assert!(shown.contains("| 3 |"), "{shown}");
}

#[test]
fn snapshots_have_all_of_sql() {
    insta::assert_snapshot!(answer("SELECT zone, sum(price) FROM t GROUP BY ROLLUP (zone) ORDER BY zone, 2 LIMIT 3"), @r"
+------+-----+
| zone | sum |
+------+-----+
| a    | 6.0 |
| b    | 1.5 |
|      | 8.0 |
+------+-----+
");
    insta::assert_snapshot!(answer(
        "SELECT id, rank() OVER (ORDER BY price DESC) AS r FROM t WHERE id IN (SELECT id FROM t WHERE price > 1.7) ORDER BY id"
    ), @r"
+----+---+
| id | r |
+----+---+
| 2  | 3 |
| 3  | 2 |
| 4  | 1 |
+----+---+
");
    insta::assert_snapshot!(answer(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT sum(i) FROM n"
    ), @r"
+-----+
| sum |
+-----+
| 6   |
+-----+
");
    insta::assert_snapshot!(answer("SELECT count(*) FROM t"), @r"
+-------+
| count |
+-------+
| 4     |
+-------+
");
    insta::assert_snapshot!(answer("SELECT DISTINCT ON (zone) zone, id FROM t ORDER BY zone, id"), @r"
+------+----+
| zone | id |
+------+----+
| a    | 2  |
| b    | 1  |
|      | 4  |
+------+----+
");
}

#[test]
fn now_is_the_statements_time() {
    insta::assert_snapshot!(answer("SELECT now() AS n, now() = current_timestamp AS same"), @r"
+----------------------+------+
| n                    | same |
+----------------------+------+
| 2023-11-14T22:13:20Z | true |
+----------------------+------+
");
}

#[test]
fn parameters_are_put_in() {
    let batches = run("SELECT id FROM t WHERE zone = $1", Some(&[ScalarValue::from("b")]), 64 << 20).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let error = run("SELECT id FROM t WHERE zone = $1", Some(&[]), 64 << 20).unwrap_err();
    assert!(error.message().contains("$1"), "{error}");
}

#[test]
fn a_sum_that_its_type_cannot_hold_is_an_error() {
    assert!(run("SELECT sum(id + 9223372036854775800) FROM t", None, 64 << 20).is_err());
    insta::assert_snapshot!(answer("SELECT zone, sum(id) AS n FROM t GROUP BY zone ORDER BY zone"), @r"
+------+---+
| zone | n |
+------+---+
| a    | 5 |
| b    | 1 |
|      | 4 |
+------+---+
");
}

#[test]
fn sessions_in_sql() {
    insta::assert_snapshot!(answer(
        "SELECT id, window_start, window_end FROM SESSION(TABLE t, DESCRIPTOR(at), INTERVAL '31' SECOND) ORDER BY id"
    ), @r"
+----+----------------------------+---------------------+
| id | window_start               | window_end          |
+----+----------------------------+---------------------+
| 1  | 1969-12-31T23:59:59.999999 | 1970-01-01T00:01:01 |
| 2  | 1970-01-01T00:01:30        | 1970-01-01T00:02:01 |
| 4  | 1969-12-31T23:59:59.999999 | 1970-01-01T00:01:01 |
+----+----------------------------+---------------------+
");
    insta::assert_snapshot!(answer(
        "SELECT zone, window_start, window_end, count(*) AS n
         FROM SESSION(TABLE t PARTITION BY zone, DESCRIPTOR(at), INTERVAL '2' MINUTE)
         GROUP BY zone, window_start, window_end ORDER BY zone"
    ), @r"
+------+----------------------------+----------------------------+---+
| zone | window_start               | window_end                 | n |
+------+----------------------------+----------------------------+---+
| a    | 1970-01-01T00:01:30        | 1970-01-01T00:03:30        | 1 |
| b    | 1970-01-01T00:00:30        | 1970-01-01T00:02:30        | 1 |
|      | 1969-12-31T23:59:59.999999 | 1970-01-01T00:01:59.999999 | 1 |
+------+----------------------------+----------------------------+---+
");
}

#[test]
fn memory_is_limited() {
    let error =
        run("SELECT array_agg(x.id ORDER BY y.id) FROM t x, t y, t z, t u, t v, t w, t q, t r, t s", None, 1 << 20)
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
}

#[test]
fn errors_of_rows_are_data_errors() {
    let error = run("SELECT 1 / (id - id) FROM t", None, 64 << 20).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Data, "division by zero"));
}

/// All windows whose bounds lie near a time, asked one by one whether they cover it.
fn by_trying(time: i128, per_unit: i128, window: WindowSpec) -> Vec<(i128, i128)> {
    let nanos = |micros: i64| i128::from(micros) * 1_000;
    let time = time * per_unit;
    let mut found = Vec::new();
    let (step, size, offset) = match window {
        WindowSpec::Tumble { size, offset } => (nanos(size), nanos(size), nanos(offset)),
        WindowSpec::Hop { slide, size, offset } => (nanos(slide), nanos(size), nanos(offset)),
        WindowSpec::Cumulate { size, offset, .. } => (nanos(size), nanos(size), nanos(offset)),
    };
    let around = (time - offset) / step;
    for index in around - size / step - 3..=around + 3 {
        let start = offset + index * step;
        let ends = match window {
            WindowSpec::Cumulate { step, .. } => (1..=size / nanos(step)).map(|k| start + k * nanos(step)).collect(),
            _ => vec![start + size],
        };
        found.extend(
            ends.into_iter().filter(|end| start <= time && time < *end).map(|end| (start / per_unit, end / per_unit)),
        );
    }
    found.sort_unstable();
    found
}

fn any_window() -> impl Strategy<Value = WindowSpec> {
    let offset = 0_i64..50;
    prop_oneof![
        (1_i64..40, offset.clone()).prop_map(|(size, offset)| WindowSpec::Tumble { size, offset: offset % size }),
        (1_i64..40, 1_i64..200, offset.clone()).prop_map(|(slide, size, offset)| WindowSpec::Hop {
            slide,
            size,
            offset: offset % slide
        }),
        (1_i64..20, 1_i64..9, offset).prop_map(|(step, steps, offset)| WindowSpec::Cumulate {
            step,
            size: step * steps,
            offset: offset % (step * steps)
        }),
    ]
}

proptest! {
    /// Negative times, offsets, sizes that are no multiple of the slide, slides longer than the size.
    #[test]
    fn windows_cover_the_time(time in -500_i64..500, window in any_window()) {
        let listed: Vec<_> = windows_of(time, TimeUnit::Microsecond, window).collect();
        prop_assert_eq!(listed, by_trying(i128::from(time), 1_000, window));
    }

    #[test]
    fn windows_in_other_units(time in -500_000_i64..500_000, window in any_window()) {
        let listed: Vec<_> = windows_of(time, TimeUnit::Nanosecond, window).collect();
        prop_assert_eq!(listed, by_trying(i128::from(time), 1, window));
    }
}

#[test]
fn windows_at_the_ends_of_time() {
    let window = WindowSpec::Tumble { size: 60_000_000, offset: 0 };
    for time in [i64::MIN, i64::MAX] {
        assert_eq!(windows_of(time, TimeUnit::Microsecond, window).count(), 1);
    }
}

#[test]
fn as_of_joins_in_sql() {
    let text = |join: &str, sign: &str| {
        format!(
            "SELECT a.id, b.id FROM t a {join} t b MATCH_CONDITION (a.at {sign} b.at) ON a.price <> b.price OR true ORDER BY 1"
        )
    };
    assert!(run(&text("ASOF JOIN", ">="), None, 64 << 20).is_err());
    let pairs = |join: &str, sign: &str, on: &str| {
        let text = format!(
            "SELECT a.id, b.id AS other FROM t a {join} t b MATCH_CONDITION (a.at {sign} b.at) {on} ORDER BY 1"
        );
        let shown = answer(&text);
        let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
        rows.map(|row| row.replace([' ', '|'], "")).collect::<Vec<_>>().join(" ")
    };
    // Times are 30 s, 90 s, none and just before 1970.
    assert_eq!(pairs("ASOF JOIN", ">", ""), "14 21");
    assert_eq!(pairs("LEFT ASOF JOIN", "<", ""), "12 2 3 41");
    assert_eq!(pairs("ASOF LEFT JOIN", ">=", "ON a.zone = b.zone"), "11 22 3 4");
}
