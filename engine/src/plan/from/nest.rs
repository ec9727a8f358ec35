//! Joins that are planned here in parentheses: `a ASOF JOIN b … JOIN c …` becomes `(a ASOF JOIN b …) JOIN c …`.
//!
//! The SQL planner asks for one relation after the other, and joins them itself. An as-of join ([`crate::plan::asof`]), or one with
//! merged columns ([`super::merged`]), is put into parentheses with its left side, so that it is one relation; and so is a join
//! behind such a one whose condition may name a merged column.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, Query, Select, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::merged::{condition_join, has_merged, is_lateral, may_name_merged, merges};
use crate::plan::asof::is_as_of;

/// Puts all such joins of a query into parentheses.
pub(in crate::plan) fn nest_joins(query: &mut Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut Nester);
}

fn is_ours(table: &TableWithJoins, index: usize) -> bool {
    let join = &table.joins[index];
    is_as_of(join) || merges(join) || may_name_merged(&table.relation, &table.joins[..=index])
}

fn last_of_ours(table: &TableWithJoins) -> Option<usize> {
    (0..table.joins.len()).rev().find(|index| is_ours(table, *index))
}

struct Nester;

impl VisitorMut for Nester {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        select.from.iter_mut().for_each(nest);
        with_condition(select);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor
            && table_with_joins.joins.len() > 1
        {
            nest(table_with_joins);
        }
        ControlFlow::Continue(())
    }
}

fn nest(table: &mut TableWithJoins) {
    if last_of_ours(table).is_some() {
        *table = nested(table.clone());
    }
}

/// Puts the condition of a WHERE into the parentheses of a join that merges columns ([`super::merged`]).
fn with_condition(select: &mut Select) {
    if select.selection.is_some() && select.from.iter().any(has_merged) {
        crossed(&mut select.from);
    }
    let [table] = select.from.as_mut_slice() else { return };
    if has_merged(table)
        && let Some(condition) = select.selection.take()
    {
        let relation = if table.joins.is_empty() { table.relation.clone() } else { parenthesised(table.clone()) };
        let table_with_condition = TableWithJoins { relation, joins: vec![condition_join(condition)] };
        *table = TableWithJoins { relation: parenthesised(table_with_condition), joins: Vec::new() };
    }
}

/// `FROM a, b` as `FROM a CROSS JOIN b`, if no relation names the ones before it.
fn crossed(from: &mut Vec<TableWithJoins>) {
    if from.len() < 2 || from.iter().any(has_lateral) {
        return;
    }
    let mut tables = std::mem::take(from).into_iter().map(|table| match table.joins.as_slice() {
        [] => table.relation,
        _ => parenthesised(table),
    });
    if let Some(relation) = tables.next() {
        let joins = tables.map(|relation| Join {
            relation,
            global: false,
            join_operator: JoinOperator::CrossJoin(JoinConstraint::None),
        });
        from.push(TableWithJoins { relation, joins: joins.collect() });
    }
}

fn has_lateral(table: &TableWithJoins) -> bool {
    std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)).any(is_lateral)
}

/// The last such join with all that stands before it as one relation.
fn nested(mut table: TableWithJoins) -> TableWithJoins {
    let Some(last) = last_of_ours(&table) else { return table };
    let after = table.joins.split_off(last + 1);
    let join = table.joins.split_off(last);
    let before = nested(table);
    let left = if before.joins.is_empty() { before.relation } else { parenthesised(before) };
    TableWithJoins { relation: parenthesised(TableWithJoins { relation: left, joins: join }), joins: after }
}

fn parenthesised(table: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_query;

    fn nested(from: &str) -> String {
        let mut query = *parse_query(&format!("SELECT * FROM {from}")).unwrap().body;
        nest_joins(&mut query);
        query.to_string().split_off("SELECT * FROM ".len())
    }

    #[test]
    fn joins_that_are_planned_here_get_parentheses() {
        assert_eq!(nested("a JOIN b ON true, c"), "a JOIN b ON true, c");
        assert_eq!(
            nested("a, b JOIN c FOR SYSTEM_TIME AS OF b.t ON true"),
            "a, (b JOIN c FOR SYSTEM_TIME AS OF b.t ON true)"
        );
        assert_eq!(
            nested("a JOIN b ON true ASOF JOIN c ON true JOIN d ON true LEFT ASOF JOIN e ON true JOIN f ON true"),
            "(((a JOIN b ON true) GLOBAL JOIN c ON true) JOIN d ON true) GLOBAL LEFT JOIN e ON true) JOIN f ON true"
                .replacen("(((", "((((", 1)
        );
        assert_eq!(nested("(a ASOF JOIN b ON true)"), "(a GLOBAL JOIN b ON true)");
        assert_eq!(
            nested("(a ASOF JOIN b ON true JOIN (c ASOF JOIN d ON true) ON true) JOIN e ON true"),
            "((a GLOBAL JOIN b ON true) JOIN (c GLOBAL JOIN d ON true) ON true) JOIN e ON true"
        );
        assert_eq!(
            nested("a JOIN b ON true FULL JOIN c USING (k) JOIN d ON true, e NATURAL LEFT JOIN f"),
            "((a JOIN b ON true) FULL JOIN c USING(k)) JOIN d ON true, (e NATURAL LEFT JOIN f)"
        );
        // A condition that may name a merged column is planned here as well.
        assert_eq!(
            nested("a JOIN b USING (k) LEFT JOIN c ON k = c.x JOIN d ON c.x = d.x"),
            "((a JOIN b USING(k)) LEFT JOIN c ON k = c.x) JOIN d ON c.x = d.x"
        );
        assert_eq!(nested("c JOIN (a JOIN b USING (k)) ON k = c.x"), "(c JOIN (a JOIN b USING(k)) ON k = c.x)");
        assert_eq!(
            nested("a JOIN b USING (k), c JOIN d ON true WHERE k = 1"),
            "(((a JOIN b USING(k)) CROSS JOIN (c JOIN d ON true)) STRAIGHT_JOIN  ON k = 1)"
        );
        assert_eq!(nested("a LEFT SEMI JOIN b USING (k)"), "a LEFT SEMI JOIN b USING(k)");
        assert_eq!(
            nested("(SELECT * FROM a ASOF JOIN b ON true) AS c"),
            "(SELECT * FROM (a GLOBAL JOIN b ON true)) AS c"
        );
    }
}
