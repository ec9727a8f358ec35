//! What the cases of a run have shown: how many with an answer that is not empty had each operator and each construct.

use std::collections::{BTreeMap, BTreeSet};

use rondel_engine::plan::flow::{Corrections, Emit, FlowNode, FlowOp, FlowPlan, WindowSpec};

use super::table::KEY;

/// Constructs of SQL, as the generator writes them. Each must be met in a run of many cases.
const CONSTRUCTS: &[&str] = &[
    // Joins.
    " JOIN ",
    " LEFT JOIN ",
    " RIGHT JOIN ",
    " FULL JOIN ",
    " CROSS JOIN ",
    " LEFT SEMI JOIN ",
    " LEFT ANTI JOIN ",
    " NATURAL ",
    " USING (",
    " IS NOT DISTINCT FROM ",
    ", LATERAL (",
    " LEFT JOIN LATERAL (",
    "DESCRIPTOR(ts)",
    " ASOF JOIN ",
    "LEFT ASOF JOIN ",
    " FOR SYSTEM_TIME AS OF ",
    ") AS first",
    "now()",
    // Subqueries.
    "EXISTS (SELECT",
    "NOT EXISTS (SELECT",
    " IN (SELECT",
    " NOT IN (SELECT",
    " ANY (SELECT",
    " ALL (SELECT",
    "SELECT (SELECT",
    " < (SELECT",
    "HAVING count(*) < (SELECT",
    "HAVING EXISTS (",
    "WITH q",
    // Set operations.
    " UNION ALL ",
    " UNION SELECT",
    " INTERSECT SELECT",
    " INTERSECT ALL ",
    " EXCEPT SELECT",
    " EXCEPT ALL ",
    "SELECT DISTINCT ",
    // Lists and constants.
    "SELECT unnest(",
    ", unnest(",
    " LEFT JOIN unnest(",
    "generate_series(",
    "(VALUES ",
    // Groups.
    " GROUP BY ",
    "GROUPING SETS (",
    "ROLLUP (",
    "CUBE (",
    "grouping(",
    " HAVING ",
    "FILTER (WHERE ",
    // Aggregates.
    "count(*)",
    "count(DISTINCT ",
    "sum(",
    "sum(DISTINCT ",
    "avg(",
    "avg(DISTINCT ",
    "min(",
    "max(",
    "bool_and(",
    "bool_or(",
    "bit_and(",
    "bit_or(",
    "bit_xor(",
    "stddev_pop(",
    "stddev(",
    "var_pop(",
    "var_samp(",
    "covar_pop(",
    "covar_samp(",
    "regr_count(",
    "regr_avgx(",
    "regr_sxx(",
    "regr_sxy(",
    "array_agg(",
    "array_agg(DISTINCT ",
    "string_agg(",
    "first_value(",
    "last_value(",
    "nth_value(",
    "median(",
    "percentile_cont(",
    "approx_distinct(",
    // Windows.
    "TUMBLE(",
    "HOP(",
    "CUMULATE(",
    "SESSION(",
    " PARTITION BY g, DESCRIPTOR",
    "TUMBLE((",
    "HOP((",
    "CUMULATE((",
    "EMIT AFTER WATERMARK",
    "EMIT AFTER DELAY",
    " ROWS AND AFTER WATERMARK",
    "ALLOWED LATENESS",
    "EMIT STREAM",
    "EMIT STREAM AFTER WATERMARK",
    "EMIT STREAM AFTER DELAY",
    "RETRACTING",
    "ACCUMULATING",
    "DISCARDING",
    // Window functions.
    " OVER (",
    "row_number()",
    "rank()",
    "dense_rank()",
    "percent_rank()",
    "cume_dist()",
    "ntile(",
    "lag(",
    "lead(",
    "IGNORE NULLS",
    "ROWS BETWEEN",
    "RANGE BETWEEN",
    "GROUPS BETWEEN",
    " RANGE BETWEEN INTERVAL",
    " WINDOW w",
    " MATCH_RECOGNIZE (",
    " | ",
    "+?",
    "{2,}",
    "PREV(",
    "NEXT(",
    // Functions of ours.
    "quote_literal(",
    "initcap(",
    "split_part(",
    "to_hex(",
    "to_char(",
    "num_nulls(",
    "width_bucket(",
    // The first rows.
    " QUALIFY ",
    "DISTINCT ON (",
    " LIMIT ",
    " OFFSET ",
];

/// Operators. Each must be met in a run of many cases.
const OPERATORS: &[&str] = &[
    "scan of rows that come",
    "scan of rows that come and go",
    "scan of rows that come, with a key",
    "scan of rows that come and go, with a key",
    "scan of upserts",
    "values",
    "filter",
    "project",
    "union",
    "window Tumble",
    "window Hop",
    "window Cumulate",
    "session, corrected",
    "session, at the watermark",
    "windowed aggregate Tumble, corrected",
    "windowed aggregate Hop, corrected",
    "windowed aggregate Cumulate, corrected",
    "windowed aggregate Tumble, at the watermark",
    "windowed aggregate Hop, at the watermark",
    "windowed aggregate Cumulate, at the watermark",
    "windowed aggregate of rows that go",
    "aggregate of rows that come",
    "aggregate of rows that go",
    "aggregate, at the watermark",
    "join Inner by equality",
    "join Left by equality",
    "join Right by equality",
    "join Full by equality",
    "join LeftSemi by equality",
    "join LeftAnti by equality",
    "join LeftMark by equality",
    "join Inner of all pairs",
    "join Left of all pairs",
    "join Right of all pairs",
    "join Full of all pairs",
    "join LeftSemi of all pairs",
    "join LeftAnti of all pairs",
    "join, at the watermark",
    "join, NULL equals NULL",
    "Distinct",
    "Intersect",
    "Intersect all",
    "Except",
    "Except all",
    "single row",
    "over",
    "over, at the watermark of a partition",
    "over, at the watermark of its order",
    "top RowNumber",
    "top Rank",
    "top DenseRank",
    "unnest",
    "unnest that keeps rows without elements",
    "as-of join, corrected",
    "as-of join, at the watermark",
    "aggregate of parts",
    "temporal filter",
    "show",
    "show, held back",
    "show, each row in the place of the last",
    "show, a changelog",
    "show, a changelog with numbers",
];

/// What a case has of both.
pub(crate) fn met(sql: &str, plan: &FlowPlan) -> BTreeSet<&'static str> {
    let mut met: BTreeSet<&'static str> = CONSTRUCTS.iter().copied().filter(|text| sql.contains(text)).collect();
    for node in &plan.nodes {
        let names = operators(plan, node);
        met.extend(OPERATORS.iter().copied().filter(|known| names.iter().any(|name| name == known)));
    }
    met
}

fn operators(plan: &FlowPlan, node: &FlowNode) -> Vec<String> {
    let goes = node.inputs.iter().any(|input| plan.nodes[*input].properties.changelog);
    let how = |emit: Emit| if emit == Emit::AfterWatermark { "at the watermark" } else { "corrected" };
    let final_only =
        |name: &str, emit: Emit| (emit == Emit::AfterWatermark).then(|| format!("{name}, at the watermark"));
    match &node.op {
        FlowOp::Scan { projection, .. } => {
            let come = if node.properties.changelog { "come and go" } else { "come" };
            let keyed = (!node.properties.keys.is_empty()).then(|| format!("scan of rows that {come}, with a key"));
            let upserts = projection.iter().any(|column| *column > KEY).then(|| "scan of upserts".to_owned());
            std::iter::once(format!("scan of rows that {come}")).chain(keyed).chain(upserts).collect()
        }
        FlowOp::Values { .. } => vec!["values".to_owned()],
        FlowOp::Filter { .. } => vec!["filter".to_owned()],
        FlowOp::Project { .. } => vec!["project".to_owned()],
        FlowOp::Union => vec!["union".to_owned()],
        FlowOp::Window { window, .. } => vec![format!("window {}", kind(window))],
        FlowOp::Session { emit, .. } => vec![format!("session, {}", how(*emit))],
        FlowOp::WindowAggregate { window, emit, .. } => {
            let own = format!("windowed aggregate {}, {}", kind(window), how(*emit));
            std::iter::once(own).chain(goes.then(|| "windowed aggregate of rows that go".to_owned())).collect()
        }
        FlowOp::Aggregate { emit, .. } => {
            let own = format!("aggregate of rows that {}", if goes { "go" } else { "come" });
            std::iter::once(own).chain(final_only("aggregate", *emit)).collect()
        }
        FlowOp::Join { kind, on, null_equals_null, emit, .. } => {
            let by = if on.is_empty() { "of all pairs" } else { "by equality" };
            let nulls = null_equals_null.then(|| "join, NULL equals NULL".to_owned());
            std::iter::once(format!("join {kind:?} {by}")).chain(nulls).chain(final_only("join", *emit)).collect()
        }
        FlowOp::Set { kind, .. } => vec![kind.to_string()],
        FlowOp::SingleRow => vec!["single row".to_owned()],
        FlowOp::Over(spec) => {
            let watermark = spec.emit == Emit::AfterWatermark;
            let mut names = vec!["over".to_owned()];
            names.extend(spec.limit.map(|limit| format!("top {:?}", limit.by)));
            let of =
                |there: bool, what: &str| (watermark && there).then(|| format!("over, at the watermark of {what}"));
            names.extend(of(spec.closes.is_some(), "a partition"));
            names.extend(of(spec.settles.is_some(), "its order"));
            names
        }
        FlowOp::Unnest(spec) if spec.keep_empty => vec!["unnest that keeps rows without elements".to_owned()],
        FlowOp::Unnest(_) => vec!["unnest".to_owned()],
        FlowOp::AsOf(spec) => vec![format!("as-of join, {}", how(spec.emit))],
        FlowOp::PaneAggregate { .. } => vec!["aggregate of parts".to_owned()],
        FlowOp::Show(spec) => {
            let said = [
                (true, "show"),
                (spec.firing.holds_back(), "show, held back"),
                (spec.corrections == Corrections::Replaced, "show, each row in the place of the last"),
                (spec.stream, "show, a changelog"),
                (spec.numbered, "show, a changelog with numbers"),
            ];
            said.into_iter().filter(|(is_so, _)| *is_so).map(|(_, name)| name.to_owned()).collect()
        }
        FlowOp::TemporalFilter { .. } => vec!["temporal filter".to_owned()],
    }
}

fn kind(window: &WindowSpec) -> &'static str {
    match window {
        WindowSpec::Tumble { .. } => "Tumble",
        WindowSpec::Hop { .. } => "Hop",
        WindowSpec::Cumulate { .. } => "Cumulate",
    }
}

/// How many cases of a run had what.
#[derive(Debug, Default)]
pub(crate) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Counts a case whose answer was not empty.
    pub(crate) fn count(&mut self, met: &BTreeSet<&'static str>) {
        for name in met {
            *self.0.entry(name).or_default() += 1;
        }
    }

    fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// A table for the reader, in three columns.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (title, names) in [("operators", OPERATORS), ("constructs", CONSTRUCTS)] {
            text.push_str(&format!("  {title}, in so many cases with an answer that is not empty:\n"));
            let cells: Vec<String> =
                names.iter().map(|name| format!("{:>6} {:<45}", self.of(name), name.trim())).collect();
            for line in cells.chunks(3) {
                text.push_str(&format!("  {}\n", line.join("").trim_end()));
            }
        }
        text
    }

    /// What no case has had.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        OPERATORS.iter().chain(CONSTRUCTS).copied().filter(|name| self.of(name) == 0).collect()
    }
}
