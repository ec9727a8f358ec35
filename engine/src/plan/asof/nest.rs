//! As-of joins in parentheses: `a ASOF JOIN b … JOIN c …` becomes `(a ASOF JOIN b …) JOIN c …`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Join, JoinOperator, Query, Select, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

/// Puts all as-of joins and temporal joins of a query into parentheses.
pub(in crate::plan) fn nest_joins(query: &mut Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut Nester);
}

/// Whether it is an as-of join or a temporal join.
pub(super) fn is_as_of(join: &Join) -> bool {
    let versioned = matches!(&join.relation, TableFactor::Table { version: Some(_), .. });
    versioned || join.global || matches!(join.join_operator, JoinOperator::AsOf { .. })
}

struct Nester;

impl VisitorMut for Nester {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        select.from.iter_mut().for_each(nest);
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
    if table.joins.iter().any(is_as_of) {
        *table = nested(table.clone());
    }
}

/// The last as-of join with all that stands before it as one relation.
fn nested(mut table: TableWithJoins) -> TableWithJoins {
    let Some(last) = table.joins.iter().rposition(is_as_of) else { return table };
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
    fn only_as_of_joins_get_parentheses() {
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
            nested("(SELECT * FROM a ASOF JOIN b ON true) AS c"),
            "(SELECT * FROM (a GLOBAL JOIN b ON true)) AS c"
        );
    }
}
