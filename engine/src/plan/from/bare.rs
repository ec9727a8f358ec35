//! Columns that are named without their relation in a subquery.
//!
//! Where several relations have the column, DataFusion 55 finds none that it would be, and goes on to look in the rows outside.
//! So it takes another column than the one that USING has merged ([`super::merged`]), and one where PostgreSQL says that it could be
//! one of several. The first are given the merged column's qualifier before anything is planned ([`qualified`]), the others
//! are found in the plan ([`checked`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    self, Ident, JoinConstraint, JoinOperator, ObjectNamePart, OrderByKind, Query, Select, SelectItem, SetExpr,
    TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::merged::{called, constraint, is_merged, merges, qualifier};
use crate::plan::column_names::folded;
use crate::plan::fault::{at_name, one_of_several};
use crate::plan::subquery::subquery_of;

/// Names that stand without their relation in subqueries.
#[derive(Debug, Default)]
pub(in crate::plan) struct Bare(Vec<Place>);

#[derive(Debug)]
struct Place {
    name: String,
    ident: Ident,
    /// What the relations of its SELECT are called.
    relations: BTreeSet<String>,
    /// It is within a subquery of a subquery.
    further_in: bool,
}

/// The query, in whose subqueries merged columns have their qualifier; and what else has none there.
pub(in crate::plan) fn qualified(query: &mut Query) -> Bare {
    let mut subqueries = Subqueries { bare: Bare::default(), depth: 0 };
    let _ = query.visit(&mut subqueries);
    subqueries.bare
}

/// The qualifiers of merged columns by their names; none: several are merged under the name.
type Merged = BTreeMap<String, Option<String>>;

struct Subqueries {
    bare: Bare,
    depth: usize,
}

impl VisitorMut for Subqueries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > 1 {
            self.within(query);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

impl Subqueries {
    fn within(&mut self, query: &mut Query) {
        if let SetExpr::Select(select) = &*query.body
            && let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(by) = &mut order.kind
        {
            let (mut merged, _) = merged_in(&mut select.from.clone());
            // What the query itself calls so comes first.
            for item in &select.projection {
                if let SelectItem::ExprWithAlias { alias, .. } = item {
                    merged.remove(&folded(alias));
                }
            }
            for by in by {
                Names::found(&merged, &mut by.expr);
            }
        }
        self.body(&mut query.body);
    }

    fn body(&mut self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn select(&mut self, select: &mut Select) {
        let mut from = std::mem::take(&mut select.from);
        let (merged, in_conditions) = merged_in(&mut from);
        let bare = Names::found(&merged, select);
        select.from = from;
        let mut relations = BTreeSet::new();
        select.from.iter().for_each(|table| note_relations(table, &mut relations));
        let names = in_conditions.into_iter().chain(bare);
        let (relations, further_in) = (&relations, self.depth > 2);
        self.bare.0.extend(names.map(|(name, ident)| Place { name, ident, relations: relations.clone(), further_in }));
    }
}

fn note_relations(table: &TableWithJoins, relations: &mut BTreeSet<String>) {
    for relation in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
        match relation {
            TableFactor::NestedJoin { table_with_joins, alias: None } => note_relations(table_with_joins, relations),
            relation => drop(relations.insert(called(relation))),
        }
    }
}

/// The columns that the relations of a FROM clause merge, and names without a relation in conditions of its joins, where merged
/// columns have their qualifier then.
fn merged_in(from: &mut [TableWithJoins]) -> (Merged, BTreeMap<String, Ident>) {
    let (mut all, mut bare) = (Merged::new(), BTreeMap::new());
    from.iter_mut().for_each(|table| add(&mut all, of_table(table, &mut bare)));
    (all, bare)
}

fn of_table(table: &mut TableWithJoins, bare: &mut BTreeMap<String, Ident>) -> Merged {
    let mut all = of_relation(&mut table.relation, bare);
    let first = called(&table.relation);
    for join in &mut table.joins {
        add(&mut all, of_relation(&mut join.relation, bare));
        if merges(join) {
            let of_both = qualifier(&first, &called(&join.relation));
            if let Some(JoinConstraint::Using(names)) = constraint(&join.join_operator) {
                for name in names {
                    if let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() {
                        all.insert(folded(ident), Some(of_both.clone()));
                    }
                }
            }
        } else if let Some(condition) = condition(&mut join.join_operator) {
            bare.extend(Names::found(&all, condition));
        }
    }
    all
}

fn of_relation(relation: &mut TableFactor, bare: &mut BTreeMap<String, Ident>) -> Merged {
    match relation {
        TableFactor::NestedJoin { table_with_joins, alias: None } => of_table(table_with_joins, bare),
        _ => Merged::new(),
    }
}

fn add(all: &mut Merged, more: Merged) {
    for (name, qualifier) in more {
        all.entry(name).and_modify(|of_several| *of_several = None).or_insert(qualifier);
    }
}

fn condition(operator: &mut JoinOperator) -> Option<&mut ast::Expr> {
    use JoinOperator::{FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
    match operator {
        Join(JoinConstraint::On(condition))
        | Inner(JoinConstraint::On(condition))
        | Left(JoinConstraint::On(condition))
        | LeftOuter(JoinConstraint::On(condition))
        | Right(JoinConstraint::On(condition))
        | RightOuter(JoinConstraint::On(condition))
        | FullOuter(JoinConstraint::On(condition)) => Some(condition),
        _ => None,
    }
}

/// Names without a relation, outside of subqueries: merged columns are given theirs, the others are remembered.
struct Names<'a> {
    merged: &'a Merged,
    found: BTreeMap<String, Ident>,
    depth: usize,
    /// Parameters of the functions around.
    parameters: Vec<String>,
}

impl<'a> Names<'a> {
    fn found(merged: &'a Merged, part: &mut impl VisitMut) -> BTreeMap<String, Ident> {
        let mut names = Names { merged, found: BTreeMap::new(), depth: 0, parameters: Vec::new() };
        let _ = part.visit(&mut names);
        names.found
    }
}

impl VisitorMut for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::Lambda(lambda) => self.parameters.extend(lambda.params.iter().map(|param| folded(&param.name))),
            ast::Expr::Identifier(ident) if self.depth == 0 => {
                let name = folded(ident);
                if self.parameters.contains(&name) {
                    return ControlFlow::Continue(());
                }
                match self.merged.get(&name) {
                    Some(Some(qualifier)) => {
                        let qualifier = Ident { span: ident.span, ..Ident::with_quote('"', qualifier) };
                        *expr = ast::Expr::CompoundIdentifier(vec![qualifier, ident.clone()]);
                    }
                    _ => drop(self.found.entry(name).or_insert_with(|| ident.clone())),
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Lambda(lambda) = expr {
            self.parameters.truncate(self.parameters.len() - lambda.params.len());
        }
        ControlFlow::Continue(())
    }
}

/// The plan of a query that had such names; an error if one of them was looked for in rows further out, although
/// it could be one of several columns.
pub(in crate::plan) fn checked(plan: LogicalPlan, bare: &Bare) -> PlanResult<LogicalPlan> {
    if !bare.0.is_empty() {
        check(&plan, bare, &mut Vec::new())?;
    }
    Ok(plan)
}

/// `outside`: the columns of the rows outside, those further out first.
fn check(plan: &LogicalPlan, bare: &Bare, outside: &mut Vec<Vec<DFSchemaRef>>) -> PlanResult<()> {
    plan.apply(|node| {
        let own: Vec<DFSchemaRef> = node.inputs().into_iter().map(|input| input.schema().clone()).collect();
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::OuterReferenceColumn(_, column) = expr
                    && let Some(ident) = passed_by(column, &own, bare, outside)
                {
                    let error = one_of_several(&ident.value).with_hint("write the relation that is meant before it");
                    return Err(at_name(error, ident).into());
                }
                if let Some(of) = subquery_of(expr) {
                    outside.push(own.clone());
                    let checked = check(&of.subquery, bare, outside);
                    outside.pop();
                    checked?;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// The name without a relation by which such a column may have been meant, if rows nearer than its own have several of that name.
fn passed_by<'a>(
    column: &Column,
    own: &[DFSchemaRef],
    bare: &'a Bare,
    outside: &[Vec<DFSchemaRef>],
) -> Option<&'a Ident> {
    let of_name = |rows: &[DFSchemaRef]| {
        let columns = rows.iter().flat_map(|schema| schema.iter());
        columns.filter(|(_, field)| *field.name() == column.name).count()
    };
    // Names of another SELECT say nothing of this one.
    let is_here = |place: &&Place| place.name == column.name && is_of(own, &place.relations);
    if of_name(own) > 1 {
        return bare.0.iter().find(is_here).map(|place| &place.ident);
    }
    // None has it if it is one of the rows beside a LATERAL.
    let has_it = |rows: &Vec<DFSchemaRef>| rows.iter().any(|schema| schema.has_column(column));
    let its_own = outside.iter().rposition(has_it)?;
    let is_passed = outside[its_own + 1..].iter().any(|rows| of_name(rows) > 1);
    let place = bare.0.iter().filter(|place| is_passed && place.further_in).find(is_here);
    place.map(|place| &place.ident)
}

/// Whether these rows are of relations that are called so.
fn is_of(rows: &[DFSchemaRef], relations: &BTreeSet<String>) -> bool {
    let mut qualifiers = rows.iter().flat_map(|schema| schema.iter()).filter_map(|(qualifier, _)| qualifier);
    qualifiers.all(|qualifier| is_merged(qualifier) || relations.contains(qualifier.table()))
}
