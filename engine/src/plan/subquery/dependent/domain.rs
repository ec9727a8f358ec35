//! The rows outside, as far as a subquery names them.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection, Subquery};

use crate::plan::subquery::subquery_of;

/// Names that no other relation of a query has.
#[derive(Debug)]
pub(in crate::plan) struct Names {
    prefix: &'static str,
    given: Cell<usize>,
}

impl Names {
    pub(in crate::plan) fn with(prefix: &'static str) -> Self {
        Self { prefix, given: Cell::new(0) }
    }

    pub(super) fn next(&self) -> String {
        self.given.set(self.given.get() + 1);
        format!("{}{}", self.prefix, self.given.get())
    }
}

/// The different values of the columns of the rows outside that a subquery names.
#[derive(Debug)]
pub(super) struct Domain<'a> {
    outside: &'a LogicalPlan,
    names: &'a Names,
    /// Which columns they are.
    pub(super) columns: Vec<Column>,
}

impl<'a> Domain<'a> {
    /// The domain of a subquery over the rows `outside`. `None` if it names none of their columns, or others than theirs; or if
    /// the rows would not be the same twice.
    pub(super) fn of(subquery: &LogicalPlan, outside: &'a LogicalPlan, names: &'a Names) -> PlanResult<Option<Self>> {
        let mut columns: Vec<Column> = Vec::new();
        visit(subquery, &mut Vec::new(), &mut |column, _| {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        })?;
        let known = columns.iter().all(|column| outside.schema().has_column(column));
        let usable = known && !columns.is_empty() && !is_volatile(outside)?;
        Ok(usable.then_some(Self { outside, names, columns }))
    }

    /// The domain's rows, and what its columns are called there: each time by other names.
    pub(super) fn rows(&self) -> PlanResult<(LogicalPlan, Vec<Column>)> {
        let relation = self.names.next();
        let keys: Vec<Column> =
            self.columns.iter().map(|column| Column::new(Some(relation.clone()), column.flat_name())).collect();
        let values: Vec<Expr> = self.columns.iter().cloned().map(Expr::Column).collect();
        let named = values.iter().cloned().zip(&keys);
        let named = named.map(|(value, key)| value.alias_qualified(key.relation.clone(), key.name.clone()));
        // Named last: equal parts of a plan are one operator.
        let rows = Projection::try_new(values.clone(), Arc::new(self.outside.clone()))?;
        let rows = LogicalPlanBuilder::from(LogicalPlan::Projection(rows)).distinct()?.project(named)?;
        Ok((rows.build()?, keys))
    }

    pub(super) fn names(&self) -> &Names {
        self.names
    }

    /// Whether a part of the subquery names the rows outside.
    pub(super) fn is_named_in(&self, plan: &LogicalPlan) -> PlanResult<bool> {
        let mut found = false;
        visit(plan, &mut Vec::new(), &mut |column, _| found |= self.columns.contains(column))?;
        Ok(found)
    }

    /// An expression over `inputs` beside the domain: what names a row outside names the domain's column, as `keys` calls it.
    pub(super) fn bound(&self, expr: Expr, inputs: &[DFSchemaRef], keys: &[Column]) -> PlanResult<Expr> {
        let place = |column: &Column| self.columns.iter().position(|of| of == column);
        expr.transform_down(|expr| match expr {
            Expr::OuterReferenceColumn(field, column) => Ok(match place(&column) {
                Some(place) => Transformed::yes(Expr::Column(keys[place].clone())),
                None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
            }),
            expr => self.within(expr, &mut inputs.to_vec(), keys),
        })
        .data()
    }

    /// As [`Self::bound`], with the name that the nodes above know it by.
    pub(super) fn bound_by_name(&self, expr: &Expr, inputs: &[DFSchemaRef], keys: &[Column]) -> PlanResult<Expr> {
        let (relation, name) = expr.qualified_name();
        let bound = self.bound(expr.clone(), inputs, keys)?;
        Ok(match bound.qualified_name() == (relation.clone(), name.clone()) {
            true => bound,
            false => bound.unalias().alias_qualified(relation, name),
        })
    }

    /// A subquery within the subquery: what it names of the rows outside both are columns of the row outside it now.
    fn within(&self, expr: Expr, hiding: &mut Vec<DFSchemaRef>, keys: &[Column]) -> PlanResult<Transformed<Expr>> {
        let mut renamed = |subquery: Subquery| -> PlanResult<Subquery> {
            let columns = |expr: Expr| Ok(self.renamed(expr, hiding, keys));
            let outer = subquery.outer_ref_columns.into_iter().map(|expr| expr.transform_up(columns).data());
            let outer = outer.collect::<PlanResult<Vec<_>>>()?;
            let plan = self.renamed_within(Arc::unwrap_or_clone(subquery.subquery), hiding, keys)?;
            Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns: outer, spans: subquery.spans })
        };
        Ok(Transformed::yes(match expr {
            Expr::Exists(mut of) => {
                of.subquery = renamed(of.subquery)?;
                Expr::Exists(of)
            }
            Expr::InSubquery(mut of) => {
                of.subquery = renamed(of.subquery)?;
                Expr::InSubquery(of)
            }
            Expr::SetComparison(mut of) => {
                of.subquery = renamed(of.subquery)?;
                Expr::SetComparison(of)
            }
            Expr::ScalarSubquery(of) => Expr::ScalarSubquery(renamed(of)?),
            other => return Ok(Transformed::no(other)),
        }))
    }

    fn renamed(&self, expr: Expr, hiding: &[DFSchemaRef], keys: &[Column]) -> Transformed<Expr> {
        let Expr::OuterReferenceColumn(field, column) = expr else { return Transformed::no(expr) };
        let place = self.columns.iter().position(|of| *of == column);
        match place.filter(|_| !is_hidden(&column, hiding)) {
            Some(place) => Transformed::yes(Expr::OuterReferenceColumn(field, keys[place].clone())),
            None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
        }
    }

    fn renamed_within(
        &self,
        plan: LogicalPlan,
        hiding: &mut Vec<DFSchemaRef>,
        keys: &[Column],
    ) -> PlanResult<LogicalPlan> {
        plan.transform_down(|node| {
            let (inputs, names) = (inputs_of(&node), matches!(node, LogicalPlan::Projection(_)));
            node.map_expressions(|expr| {
                let (relation, name) = expr.qualified_name();
                let renamed = expr.transform_down(|expr| match self.renamed(expr, hiding, keys) {
                    unchanged if !unchanged.transformed => {
                        let own = hiding.len();
                        hiding.extend(inputs.iter().cloned());
                        let within = self.within(unchanged.data, hiding, keys);
                        hiding.truncate(own);
                        within
                    }
                    renamed => Ok(renamed),
                })?;
                let other = names && renamed.data.qualified_name() != (relation.clone(), name.clone());
                Ok(renamed
                    .update_data(|expr| if other { expr.unalias().alias_qualified(relation, name) } else { expr }))
            })
        })
        .data()
    }
}

/// The schemas that a node's expressions are over.
pub(super) fn inputs_of(plan: &LogicalPlan) -> Vec<DFSchemaRef> {
    plan.inputs().into_iter().map(|input| Arc::clone(input.schema())).collect()
}

fn is_hidden(column: &Column, hiding: &[DFSchemaRef]) -> bool {
    hiding.iter().any(|schema| schema.has_column(column))
}

/// The columns outside that a plan names, also in subqueries within it where none of their own rows hides them: `found` is told
/// whether it is within.
pub(super) fn visit(
    plan: &LogicalPlan,
    hiding: &mut Vec<DFSchemaRef>,
    found: &mut dyn FnMut(&Column, bool),
) -> PlanResult<()> {
    plan.apply(|node| {
        let inputs = inputs_of(node);
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::OuterReferenceColumn(_, column) = expr
                    && !is_hidden(column, hiding)
                {
                    found(column, !hiding.is_empty());
                }
                if let Some(within) = subquery_of(expr) {
                    let own = hiding.len();
                    hiding.extend(inputs.iter().cloned());
                    let visited = visit(&within.subquery, hiding, found);
                    hiding.truncate(own);
                    visited?;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// Whether a plan's rows may be others each time.
pub(crate) fn is_volatile(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut volatile = false;
    plan.apply_with_subqueries(|node| {
        volatile |= node.expressions().iter().any(Expr::is_volatile);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(volatile)
}
