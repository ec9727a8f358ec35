//! `FETCH FIRST n ROWS ONLY` is `LIMIT n`, which DataFusion knows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, LimitClause, Query, Value, VisitMut, VisitorMut};

/// The query and all queries in it with LIMIT in the place of FETCH. `WITH TIES` and `PERCENT` stay, and are refused.
pub(super) fn limited(query: &mut Query) {
    let _ = query.visit(&mut Fetches);
}

struct Fetches;

impl VisitorMut for Fetches {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let Some(fetch) = query.fetch.as_ref().filter(|fetch| !fetch.with_ties && !fetch.percent) else {
            return ControlFlow::Continue(());
        };
        let rows = fetch.quantity.clone().unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
        let offset = match query.limit_clause.take() {
            None => None,
            Some(LimitClause::LimitOffset { limit: None, offset, limit_by }) if limit_by.is_empty() => offset,
            both => {
                query.limit_clause = both;
                return ControlFlow::Continue(());
            }
        };
        query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset, limit_by: Vec::new() });
        query.fetch = None;
        ControlFlow::Continue(())
    }
}
