//! The catalog and the functions as DataFusion's SQL planner asks for them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::{DFSchema, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, ErrorKind, Result};
use crate::schema::distance;
use crate::sql;

use super::column_names::{Naming, ambiguous_order, name_columns, restored};
use super::fault::{at_name, is_about_names, one_of_several, planning_error, with_nearest_function};
use super::fetch_first::limited;
use super::from::aliases::name_in_from;
use super::from::bare::{checked, qualified};
use super::from::merged::settled;
use super::from::nest::nest_joins;
use super::functions::Functions;
use super::group_keys;
use super::manners;
use super::relation::{Relation, RelationKind, RelationSource, Relations};
use super::subquery::elsewhere::moved;
use super::subquery::lateral::resolved;
use super::wildcards::written_out;

/// Views may name views; a chain longer than this is a mistake or an attack.
const MOST_NESTED_VIEWS: usize = 32;

/// One planning.
pub(super) struct Context<'a> {
    relations: &'a dyn Relations,
    functions: &'a Functions,
    options: &'a ConfigOptions,
    relation_planners: &'a [Arc<dyn RelationPlanner>],
    /// The functions' planners behind the one that names casts.
    naming_planners: Vec<Arc<dyn ExprPlanner>>,
    /// Casts have names: see [`manners::CastsByName`].
    names_casts: Cell<bool>,
    /// The views that are being put in, from the outermost.
    views: RefCell<Vec<String>>,
    /// Everything that was named.
    named: RefCell<BTreeSet<String>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        relations: &'a dyn Relations,
        functions: &'a Functions,
        options: &'a ConfigOptions,
        relation_planners: &'a [Arc<dyn RelationPlanner>],
    ) -> Self {
        let casts: Arc<dyn ExprPlanner> = Arc::new(manners::CastsByName);
        let naming_planners = std::iter::once(casts).chain(functions.expr_planners().iter().cloned()).collect();
        let (names_casts, views, named) = Default::default();
        Self { relations, functions, options, relation_planners, naming_planners, names_casts, views, named }
    }

    /// An expression over the columns of a schema, as SQL says it.
    pub(super) fn expression(&self, expr: &ast::Expr, schema: &DFSchema) -> Result<Expr> {
        let mut expr = expr.clone();
        manners::rewrite_expression(&mut expr, self.functions);
        self.sql().sql_to_expr(expr, schema, &mut PlannerContext::new()).map_err(|error| self.fault(error))
    }

    /// DataFusion's planner over this catalog.
    pub(super) fn sql(&self) -> SqlToRel<'_, Self> {
        SqlToRel::new_with_options(self, parser_options())
    }

    /// A query's plan, as SQL says it.
    pub(super) fn plan(&self, query: &ast::Query, naming: Naming) -> Result<LogicalPlan> {
        if let Some(name) = ambiguous_order(query) {
            let error = one_of_several(&name.value).with_hint("give each of them a name of its own with AS");
            return Err(at_name(error, &name));
        }
        let plan = match self.planned(query, naming, false) {
            Err(error) if is_about_names(&error) => {
                let before = self.names_casts.replace(true);
                let plan = self.planned(query, naming, false).or_else(|_| self.planned_written_out(query, naming));
                self.names_casts.set(before);
                plan.map_err(|_| error)
            }
            plan => plan,
        };
        restored(resolved(plan.map_err(|error| self.fault(error))?)?)
    }

    /// The plan of a query whose wildcards are written out, as far as that is known.
    fn planned_written_out(&self, query: &ast::Query, naming: Naming) -> PlanResult<LogicalPlan> {
        let mut query = query.clone();
        let columns = |query: &ast::Query| Some(self.planned(query, Naming::Answer, true).ok()?.schema().columns());
        written_out(&mut query, &columns);
        self.planned(&query, naming, true)
    }

    fn planned(&self, query: &ast::Query, naming: Naming, beside_wildcards: bool) -> PlanResult<LogicalPlan> {
        let mut query = Box::new(query.clone());
        limited(&mut query);
        name_columns(&mut query, naming, beside_wildcards);
        let bare = qualified(&mut query);
        name_in_from(&mut query);
        nest_joins(&mut query);
        manners::rewrite(&mut query, self.functions);
        group_keys::closed(&mut query);
        self.sql()
            .sql_statement_to_plan(ast::Statement::Query(query))
            .and_then(|plan| checked(plan, &bare))
            .and_then(group_keys::as_written)
            .and_then(settled)
            .and_then(moved)
    }

    fn fault(&self, error: DataFusionError) -> Error {
        with_nearest_function(planning_error(error), || {
            [self.udf_names(), self.udaf_names(), self.udwf_names(), self.higher_order_function_names()].concat()
        })
    }

    /// The relations that the queries planned so far named, views that were put in among them.
    pub(super) fn into_named(self) -> Vec<String> {
        self.named.into_inner().into_iter().collect()
    }

    fn view(&self, relation: &Relation, query: &str, columns: &[String]) -> Result<LogicalPlan> {
        if self.views.borrow().len() >= MOST_NESTED_VIEWS {
            return Err(Error::not_supported(format!("views are nested more than {MOST_NESTED_VIEWS} deep")));
        }
        self.views.borrow_mut().push(relation.name.clone());
        let plan = sql::parse_query(query).and_then(|query| self.plan(&query.body, Naming::Relation));
        self.views.borrow_mut().pop();
        // A place in the view's text would point into the wrong text.
        let plan = plan.map_err(|error| {
            let moved = Error::new(error.kind(), format!("in view {}: {}", relation.name, error.message()));
            match error.hint() {
                Some(hint) => moved.with_hint(hint),
                None => moved,
            }
        })?;
        renamed(plan, columns)
    }
}

/// How text becomes types and names: PostgreSQL's folding and NULL order; text is Arrow's `Utf8`.
fn parser_options() -> ParserOptions {
    ParserOptions::new().with_collect_spans(true).with_map_string_types_to_utf8view(false)
}

/// A plan with new names for its first columns.
pub(super) fn renamed(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    if names.is_empty() {
        return Ok(plan);
    }
    let width = plan.schema().fields().len();
    if names.len() > width {
        return Err(Error::invalid(format!(
            "{} column names are given, and the query has {width} columns",
            names.len()
        )));
    }
    let columns: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .enumerate()
        .map(|(index, column)| match names.get(index) {
            Some(name) => Expr::Column(column).alias(name),
            None => Expr::Column(column),
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(planning_error)
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> PlanResult<Arc<dyn TableSource>> {
        let ours = name.catalog().is_none() && name.schema().is_none_or(|schema| schema == "public");
        let relation = if ours { self.relations.relation(name.table()) } else { None };
        let Some(relation) = relation else {
            if let Some(table) = self.relations.system_table(&name) {
                return Ok(table);
            }
            if let Some(error) = ours.then(|| self.relations.why_unreadable(name.table())).flatten() {
                return Err(error.into());
            }
            let error = Error::new(ErrorKind::UndefinedObject, format!("there is no stream or view named {name}"));
            return Err(match nearest(name.table(), self.relations.names()) {
                Some(other) => error.with_hint(format!("do you mean {other}?")),
                None => error.with_hint("SHOW TABLES lists what can be read"),
            }
            .into());
        };
        self.named.borrow_mut().insert(relation.name.clone());
        let source = match &relation.kind {
            RelationKind::View { query, columns } => {
                let plan = self.view(&relation, query, columns).map_err(DataFusionError::from)?;
                RelationSource::inlined(relation, plan)
            }
            RelationKind::Upserts { query, .. } if self.views.borrow().last() != Some(&relation.name) => {
                let plan = self.view(&relation, query, &[]).map_err(DataFusionError::from)?;
                RelationSource::inlined(relation, plan)
            }
            RelationKind::Stream
            | RelationKind::Upserts { .. }
            | RelationKind::Table
            | RelationKind::MaterializedView => RelationSource::scanned(relation),
        };
        Ok(Arc::new(source))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> PlanResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        match self.names_casts.get() {
            true => &self.naming_planners,
            false => self.functions.expr_planners(),
        }
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.relation_planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar(name)
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.functions.higher_order(name)
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name)
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalars().iter().map(|function| function.name().to_owned()).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.functions.higher_order_names()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregates().iter().map(|function| function.name().to_owned()).collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.windows().iter().map(|function| function.name().to_owned()).collect()
    }
}

/// The name that is most like the one that was not found, if one is much like it.
pub(super) fn nearest(wanted: &str, names: Vec<String>) -> Option<String> {
    let nearest = names.into_iter().min_by_key(|name| distance(wanted, name))?;
    (distance(wanted, &nearest) <= 1 + wanted.len() / 4).then_some(nearest)
}
