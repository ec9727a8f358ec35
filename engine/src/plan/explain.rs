//! EXPLAIN: the flow plan as text.

mod asof;
mod meant;
mod over;
mod shown;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::sql::unparser::Unparser;

use crate::time::WatermarkId;

use super::flow::{Emit, FlowNode, FlowOp, FlowPlan, JoinKind, NodeIndex, WindowKey};
use super::node::window::Length;
use super::properties::{Promise, is_computed_from_rows};
use super::release::join_release;
use super::state_ttl::state_ttl;

/// The plan as a tree, root first. Below each operator stand, where there is something to say: whether its rows are
/// append-only or a changelog, their keys, the columns that grow with a watermark; by what its input is exchanged between
/// workers; and what it remembers and what bounds that.
pub fn explain(plan: &FlowPlan) -> String {
    let plan = &meant::meant(plan);
    let mut text = String::new();
    if let Some(root) = plan.nodes.len().checked_sub(1) {
        let users = |node| plan.nodes.iter().flat_map(|user| &user.inputs).filter(|input| **input == node).count();
        let shared = (0..plan.nodes.len()).filter(|&node| users(node) > 1).collect();
        Explained { plan, shared, said: BTreeSet::new(), text: &mut text }.node(root, 0);
        if let Some(late) = &plan.late {
            let names: Vec<&str> = late.schema.fields().iter().map(|field| field.name().as_str()).collect();
            // Writing into a string cannot fail.
            let _ = writeln!(text, "late rows to {}: {}", late.target, names.join(", "));
        }
    }
    text
}

struct Explained<'a> {
    plan: &'a FlowPlan,
    /// Nodes that several others read, in the plan's order; they are numbered.
    shared: Vec<NodeIndex>,
    /// Those that stand in the text already.
    said: BTreeSet<NodeIndex>,
    text: &'a mut String,
}

impl Explained<'_> {
    fn node(&mut self, index: NodeIndex, depth: usize) {
        let plan = self.plan;
        let node = &plan.nodes[index];
        let lead = if depth == 0 { "" } else { "-> " };
        let operator = match self.shared.iter().position(|shared| *shared == index) {
            Some(number) if self.said.contains(&index) => {
                return self.line(depth, lead, &format!("[{}] as above", number + 1));
            }
            Some(number) => format!("[{}] {}", number + 1, self.operator(node)),
            None => self.operator(node),
        };
        self.said.insert(index);
        self.line(depth, lead, &operator);
        let deeper = depth + usize::from(depth > 0);
        self.line(deeper, "     ", &self.rows(node));
        if let Some(keys) = exchange(plan, index) {
            self.line(deeper, "     ", &format!("exchange by {keys}"));
        }
        for state in self.state(index, node).into_iter().chain(self.rows_read_again(node)) {
            self.line(deeper, "     ", &format!("state: {state}"));
        }
        if let FlowOp::Over(spec) = &node.op
            && let Some(note) = over::rewrites(spec)
        {
            self.line(deeper, "     ", &note);
        }
        for &input in &node.inputs {
            self.node(input, depth + 1);
        }
    }

    fn line(&mut self, depth: usize, lead: &str, content: &str) {
        let indent = "  ".repeat(depth);
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{indent}{lead}{content}");
    }

    fn operator(&self, node: &FlowNode) -> String {
        let input = node.inputs.first().map(|&input| &self.plan.nodes[input]);
        match &node.op {
            FlowOp::Scan { relation, kind, watermark, .. } => {
                let kind = match kind {
                    super::flow::ScanKind::Stream => "stream",
                    super::flow::ScanKind::Table => "table",
                    super::flow::ScanKind::View => "view",
                };
                let mut line = format!("Scan {kind} {relation}: {}", names(node));
                if let Some(watermark) = watermark
                    && kind != "view"
                {
                    let column = node.schema.field(watermark.column).name();
                    let _ = write!(line, "; watermark for {column} as {}", said(&watermark.expression));
                }
                line
            }
            FlowOp::Values { rows } => {
                format!("Values: {} rows", rows.iter().map(|rows| rows.num_rows()).sum::<usize>())
            }
            FlowOp::Filter { predicate } => format!("Filter {}", said(predicate)),
            FlowOp::TemporalFilter { conditions, .. } => {
                let conditions: Vec<String> = conditions.iter().map(said).collect();
                format!("Temporal filter {}", conditions.join(" and "))
            }
            FlowOp::Project { expressions } => format!("Project {}", list(expressions)),
            FlowOp::Union => "Union all".to_owned(),
            FlowOp::Window { window, time_column } => {
                let time = input.map_or(String::new(), |input| input.schema.field(*time_column).name().clone());
                format!("Window {window} of {time}: a copy of the row for each window")
            }
            FlowOp::Session { time_column, gap_micros, partition, emit, .. } => {
                let time = input.map_or(String::new(), |input| input.schema.field(*time_column).name().clone());
                let by = if partition.is_empty() { String::new() } else { format!(" by {}", list(partition)) };
                let shown = match emit {
                    Emit::OnChange => "shown at once and corrected",
                    Emit::AfterWatermark => "shown once at the watermark",
                };
                format!("Session of {time}{by}, gap {}, {shown}", Length(*gap_micros))
            }
            FlowOp::WindowAggregate { window, time_column, shown_from, group, aggregates, emit, .. } => {
                let time = input.map_or(String::new(), |input| input.schema.field(*time_column).name().clone());
                let keys: Vec<String> = group.iter().map(window_key).collect();
                let mut line = format!("WindowAggregate {window} of {time} by {}", keys.join(", "));
                if !aggregates.is_empty() {
                    let _ = write!(line, ": {}", list(aggregates));
                }
                match shown_from {
                    Some(_) => line + ", shown at the watermark and corrected by late rows",
                    None => line + shown_when(*emit, aggregates),
                }
            }
            FlowOp::Aggregate { group, aggregates, emit, .. } => {
                if aggregates.is_empty() {
                    return format!("Distinct {}", list(group));
                }
                let by = if group.is_empty() { String::new() } else { format!(" by {}", list(group)) };
                format!("Aggregate{by}: {}{}", list(aggregates), shown_when(*emit, aggregates))
            }
            FlowOp::Set { kind, .. } => format!("{kind} of {}", names(node)),
            FlowOp::SingleRow => "Single row: a second one is an error".to_owned(),
            FlowOp::Join { kind, on, residual, null_equals_null, emit } => {
                let equals = if *null_equals_null { "IS NOT DISTINCT FROM" } else { "=" };
                let pairs = on.iter().map(|(left, right)| format!("{} {equals} {}", said(left), said(right)));
                let conditions: Vec<String> = pairs.chain(residual.as_ref().map(said)).collect();
                let on =
                    if conditions.is_empty() { String::new() } else { format!(" on {}", conditions.join(" and ")) };
                format!("{}{on}{}", join_name(*kind), shown_unmatched(*kind, *emit))
            }
            FlowOp::AsOf(spec) => asof::operator(spec),
            FlowOp::Over(spec) => over::operator(spec),
            FlowOp::PaneAggregate { group, aggregates, firing, .. } => shown::panes(group, aggregates, *firing),
            FlowOp::Show(spec) => shown::operator(spec, node, input),
            FlowOp::Unnest(spec) => {
                let name =
                    |&column: &usize| input.map_or(String::new(), |input| plain(input.schema.field(column).name()));
                let columns: Vec<String> = spec.lists.iter().chain(&spec.structs).map(name).collect();
                let kept = if spec.keep_empty { ", empty ones kept" } else { "" };
                format!("Unnest {}{kept}", columns.join(", "))
            }
        }
    }

    fn rows(&self, node: &FlowNode) -> String {
        let properties = &node.properties;
        let mut line = if properties.changelog { "changelog".to_owned() } else { "append-only".to_owned() };
        for key in &properties.keys {
            match key.as_slice() {
                [] => line.push_str("; one row"),
                columns => {
                    let columns: Vec<String> = columns.iter().map(|&index| column(node, index)).collect();
                    let _ = write!(line, "; key ({})", columns.join(", "));
                }
            }
        }
        for time in &properties.time_columns {
            let name = column(node, time.column);
            let _ = write!(line, "; {name} grows with {}", self.promise((time.watermark, time.delay_micros)));
        }
        line
    }

    fn state(&self, index: NodeIndex, node: &FlowNode) -> Vec<String> {
        match &node.op {
            FlowOp::WindowAggregate { watermark: Some(promise), .. } => {
                vec![format!("the open windows, released by {}", self.promise(*promise))]
            }
            FlowOp::WindowAggregate { watermark: None, .. } => {
                vec!["all windows: not bounded, since the time has no watermark".to_owned()]
            }
            FlowOp::Session { watermark: Some(promise), .. } => {
                vec![format!("the rows of open sessions, released by {}", self.promise(*promise))]
            }
            FlowOp::Session { watermark: None, .. } => {
                vec!["all rows: not bounded, since the time has no watermark".to_owned()]
            }
            FlowOp::TemporalFilter { bounds, .. } => {
                let enters = bounds.iter().any(|bound| bound.enters);
                let leaves = bounds.iter().any(|bound| !bound.enters);
                vec![match (enters, leaves) {
                    (true, false) => "rows that are not shown yet, each released when it is".to_owned(),
                    _ => "rows that the time has not passed, each released when it has".to_owned(),
                }]
            }
            FlowOp::Aggregate { group, .. } if group.is_empty() => vec!["one row".to_owned()],
            FlowOp::Aggregate { closes: Some((_, watermark, delay)), .. } => {
                vec![format!("the open groups, released by {}", self.promise((*watermark, *delay)))]
            }
            FlowOp::Aggregate { .. } => vec![match self.forgotten(index) {
                Some(after) => format!("the groups, each forgotten {after}"),
                None => "grows with the number of groups: not bounded".to_owned(),
            }],
            FlowOp::Set { closes: Some((_, watermark, delay)), .. } => {
                vec![format!("the different rows, released by {}", self.promise((*watermark, *delay)))]
            }
            FlowOp::Set { closes: None, .. } => vec!["grows with the number of different rows: not bounded".to_owned()],
            FlowOp::SingleRow => vec!["the number of rows".to_owned()],
            FlowOp::Join { .. } => {
                let [left, right] = join_release(self.plan, index).map(|release| release?.promise());
                let ttl = state_ttl(self.plan, index);
                let side = |side: &str, promise: Option<Promise>, ttl: Option<i64>| match (promise, ttl) {
                    (Some(promise), _) => format!("{side} rows, released by {}", self.promise(promise)),
                    (None, Some(ttl)) => {
                        format!("{side} rows, each forgotten {} after it came (state_ttl)", Length(ttl))
                    }
                    (None, None) => format!("{side} rows, all of them: not bounded"),
                };
                vec![side("left", left, ttl[0]), side("right", right, ttl[1])]
            }
            FlowOp::AsOf(spec) => asof::state(spec, &|promises| self.promises(promises)),
            FlowOp::Over(spec) => {
                let append_only = node.inputs.iter().all(|&input| !self.plan.nodes[input].properties.changelog);
                let promise = spec.closes.map(|(_, watermark, delay)| (watermark, delay)).or(spec.settles);
                let released = promise.map(|promise| self.promise(promise));
                vec![over::state(spec, append_only, released, self.forgotten(index))]
            }
            FlowOp::PaneAggregate { .. } => vec!["the groups that have rows and were not shown".to_owned()],
            FlowOp::Show(spec) => {
                let input = node.inputs.first().map(|&input| &self.plan.nodes[input]);
                let released = spec.closes.map(|(_, watermark, delay)| self.promise((watermark, delay)));
                shown::state(spec, input, released)
            }
            _ => Vec::new(),
        }
    }

    /// The calls that have no state but the rows of their groups.
    fn rows_read_again(&self, node: &FlowNode) -> Option<String> {
        let changing = node.inputs.iter().any(|&input| self.plan.nodes[input].properties.changelog);
        let (FlowOp::Aggregate { aggregates, .. } | FlowOp::WindowAggregate { aggregates, .. }) = &node.op else {
            return None;
        };
        let calls: Vec<Expr> =
            aggregates.iter().filter(|call| changing && is_computed_from_rows(call)).cloned().collect();
        let of = list(&calls);
        (!calls.is_empty()).then(|| format!("the rows of each group for {of}: all read again when the group changes"))
    }

    /// When a node's keys are forgotten that no row touches.
    fn forgotten(&self, index: NodeIndex) -> Option<String> {
        let ttl = state_ttl(self.plan, index)[0]?;
        Some(format!("when no row has touched it for {} (state_ttl)", Length(ttl)))
    }

    fn promise(&self, (watermark, delay): Promise) -> String {
        let source = self.watermark(watermark);
        match delay {
            0 => source,
            ahead @ ..0 => format!("{source} plus {}", Length(ahead.saturating_neg())),
            _ => format!("{source} less {}", Length(delay)),
        }
    }

    /// Several promises: the least of them.
    fn promises(&self, promises: &[Promise]) -> String {
        let said: Vec<String> = promises.iter().map(|&promise| self.promise(promise)).collect();
        match said.as_slice() {
            [one] => one.clone(),
            several => format!("the least of ({})", several.join(", ")),
        }
    }

    fn watermark(&self, id: WatermarkId) -> String {
        let index = id.0 as usize;
        if let Some(origin) = self.plan.watermarks.get(index) {
            return format!("watermark of {}.{}", origin.relation, origin.column);
        }
        match self.plan.derived.get(index - self.plan.watermarks.len()) {
            Some(derived) => {
                let of: Vec<String> = derived.least_of.iter().map(|&promise| self.promise(promise)).collect();
                format!("the least of ({})", of.join(", "))
            }
            None => format!("watermark {index}"),
        }
    }
}

fn exchange(plan: &FlowPlan, index: NodeIndex) -> Option<String> {
    let node = &plan.nodes[index];
    match &node.op {
        FlowOp::WindowAggregate { group, .. } => {
            let keys: Vec<String> = group.iter().map(window_key).collect();
            Some(keys.join(", "))
        }
        FlowOp::Session { partition, .. } if partition.is_empty() => Some("nothing: one worker".to_owned()),
        FlowOp::Session { partition, .. } => Some(list(partition)),
        FlowOp::Aggregate { group, .. } | FlowOp::PaneAggregate { group, .. } if group.is_empty() => {
            Some("nothing: one worker".to_owned())
        }
        FlowOp::Aggregate { group, .. } | FlowOp::PaneAggregate { group, .. } => Some(list(group)),
        FlowOp::Show(spec) => shown::exchange(spec, node.inputs.first().map(|&input| &plan.nodes[input])),
        FlowOp::Set { .. } => Some(names(node)),
        FlowOp::TemporalFilter { .. } => {
            let changing = node.inputs.iter().any(|&input| plan.nodes[input].properties.changelog);
            changing.then(|| names(node))
        }
        FlowOp::SingleRow => Some("nothing: one worker".to_owned()),
        FlowOp::Join { on, .. } if on.is_empty() => Some(
            match plan.replicated_input(index) {
                Some(0) => "all columns of the right side; the left side goes to every worker",
                Some(_) => "all columns of the left side; the right side goes to every worker",
                None => "nothing: every row is compared with every row on one worker",
            }
            .to_owned(),
        ),
        FlowOp::AsOf(spec) if spec.on.is_empty() => Some("nothing: one worker".to_owned()),
        FlowOp::AsOf(spec) => Some(sides(&spec.on)),
        FlowOp::Over(spec) if spec.partition.is_empty() => Some("nothing: one worker".to_owned()),
        FlowOp::Over(spec) => Some(list(&spec.partition)),
        FlowOp::Join { on, .. } if !plan.nodes.is_empty() => Some(sides(on)),
        _ => None,
    }
}

/// The keys of both sides of a join.
fn sides(on: &[(Expr, Expr)]) -> String {
    let side = |right: bool| {
        let keys: Vec<String> = on.iter().map(|(l, r)| said(if right { r } else { l })).collect();
        keys.join(", ")
    };
    format!("{} | {}", side(false), side(true))
}

fn join_name(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "Inner join",
        JoinKind::Left => "Left join",
        JoinKind::Right => "Right join",
        JoinKind::Full => "Full join",
        JoinKind::LeftSemi => "Semi join",
        JoinKind::LeftAnti => "Anti join",
        JoinKind::LeftMark => "Mark join",
    }
}

fn shown_unmatched(kind: JoinKind, emit: Emit) -> &'static str {
    match (kind, emit) {
        (JoinKind::Inner | JoinKind::LeftSemi, _) => "",
        (_, Emit::OnChange) => ", rows without a match shown at once and corrected",
        (_, Emit::AfterWatermark) => ", rows without a match shown once at the watermark",
    }
}

fn window_key(key: &WindowKey) -> String {
    match key {
        WindowKey::Start => "window_start".to_owned(),
        WindowKey::End => "window_end".to_owned(),
        WindowKey::Key(expr) => said(expr),
    }
}

fn shown_when(emit: Emit, aggregates: &[Expr]) -> &'static str {
    match emit {
        Emit::OnChange if aggregates.is_empty() => "",
        Emit::OnChange => ", shown at once and corrected",
        Emit::AfterWatermark => ", shown once at the watermark",
    }
}

fn list(exprs: &[Expr]) -> String {
    let exprs: Vec<String> = exprs.iter().map(said).collect();
    exprs.join(", ")
}

fn names(node: &FlowNode) -> String {
    let names: Vec<&str> = node.schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(", ")
}

/// An expression as SQL.
pub(super) fn said(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => {
            let inner = said(&alias.expr);
            if inner == plain(&alias.name) { inner } else { format!("{inner} AS {}", plain(&alias.name)) }
        }
        Expr::Column(column) => plain(&column.flat_name()),
        Expr::AggregateFunction(call) => said_call(call),
        _ => match Unparser::default().with_pretty(true).expr_to_sql(expr) {
            Ok(sql) => plain(&sql.to_string()),
            Err(_) => expr.human_display().to_string(),
        },
    }
}

fn said_call(call: &AggregateFunction) -> String {
    let params = &call.params;
    let star = call.func.name() == "count" && matches!(params.args.as_slice(), [Expr::Literal(..)]);
    let mut text = format!("{}(", call.func.name());
    if params.distinct {
        text.push_str("DISTINCT ");
    }
    text.push_str(&if star { "*".to_owned() } else { list(&params.args) });
    for (index, sort) in params.order_by.iter().enumerate() {
        let lead = if index == 0 { " ORDER BY " } else { ", " };
        let _ = write!(text, "{lead}{}{}", said(&sort.expr), if sort.asc { "" } else { " DESC" });
    }
    text.push(')');
    if let Some(filter) = &params.filter {
        let _ = write!(text, " FILTER (WHERE {})", said(filter));
    }
    text
}

/// Names that DataFusion gives, in the words of the statement.
fn plain(name: &str) -> String {
    name.replace("count(Int64(1))", "count(*)").replace("\"count(*)\"", "count(*)").replace(".000000000 SECS", " SECS")
}

/// A column's name, with its relation's where several columns have it.
fn column(node: &FlowNode, index: usize) -> String {
    let (qualifier, field) = node.schema.qualified_field(index);
    let alone = node.schema.fields().iter().filter(|other| other.name() == field.name()).count() == 1;
    match qualifier {
        Some(qualifier) if !alone => plain(&format!("{qualifier}.{}", field.name())),
        _ => plain(field.name()),
    }
}
