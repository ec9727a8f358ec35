//! Aggregate calls of the plan, lowered: what to evaluate for each row, and which accumulators take it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Expr, SortExpr};
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::accumulators::Accumulators;
use super::boxed::Boxed;
use super::changelog::Retractable;
use super::grouped::Grouped;
use super::native::{Distinct, Native};
use crate::error::{Error, Result};

/// One aggregate call, ready to run.
#[derive(Clone)]
pub(super) struct Call {
    aggregate: Arc<AggregateFunctionExpr>,
    means: Means,
    /// What [`Accumulators::update`] is given: the arguments, then the order's expressions where order matters.
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// Their types.
    types: Vec<DataType>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    state: Vec<FieldRef>,
}

/// Which accumulators a call has.
#[derive(Clone)]
enum Means {
    Native(Native),
    /// DataFusion's, over the different values of a column of this type.
    Distinct(DataType),
    /// DataFusion's.
    Function,
    /// Over rows that may be taken back.
    Retractable(Retractable),
}

/// How the state of a call is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Filled, read once, dropped as a whole.
    Pane,
    /// Read and emptied slot by slot while rows come.
    Long,
    /// As `Long`, and rows may be taken back.
    Changelog,
}

impl Call {
    /// Lowers an `Expr::AggregateFunction` (or an alias of one) over rows of `schema`.
    pub(super) fn new(expression: &Expr, schema: &DFSchema) -> Result<Self> {
        let canonical = with_canonical_order(expression);
        let (props, planning) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let lowered = LoweredAggregateBuilder::new(&canonical, schema, schema.as_arrow(), &props, &planning).build()?;
        let aggregate = lowered.aggregate;
        let types = types_of(&aggregate.expressions(), schema)?;
        let name = match aggregate.fun().name() {
            // Of the values that it may choose from, the least: an answer that doesn't depend on the order of rows.
            "any_value" => "min",
            name => name,
        };
        let means = match Native::find(name, &types, aggregate.is_distinct(), aggregate.field().data_type()) {
            Some(native) => Means::Native(native),
            None => match types.as_slice() {
                // Not every function keeps values apart by itself; DataFusion's batch engine then does it before it.
                [one] if aggregate.is_distinct() && aggregate.order_bys().is_empty() && Distinct::holds(one) => {
                    let mut plain = Self::new(&without_distinct(canonical), schema)?;
                    plain.state = vec![Arc::new(Distinct::state_field(one))];
                    plain.means = Means::Distinct(one.clone());
                    return Ok(plain);
                }
                _ => Means::Function,
            },
        };
        let mut arguments = aggregate.expressions();
        let state = match &means {
            Means::Native(native) => {
                // count(*) counts a literal: nothing to evaluate.
                if name == "count" && !aggregate.is_distinct() {
                    arguments.retain(|argument| !is_constant(argument));
                }
                native.state_fields()
            }
            Means::Distinct(_) | Means::Function | Means::Retractable(_) => {
                // Some functions refuse an argument's type only here.
                aggregate.create_accumulator()?;
                arguments.extend(aggregate.order_bys().iter().map(|sort| Arc::clone(&sort.expr)));
                aggregate.state_fields()?
            }
        };
        let types = types_of(&arguments, schema)?;
        Ok(Self { aggregate, means, arguments, types, filter: lowered.filter, state })
    }

    /// Lowers a call over rows that may be taken back.
    pub(super) fn over_changelog(expression: &Expr, schema: &DFSchema) -> Result<Self> {
        let plain = without_distinct(with_canonical_order(expression));
        let (props, planning) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let lowered = LoweredAggregateBuilder::new(&plain, schema, schema.as_arrow(), &props, &planning).build()?;
        let aggregate = lowered.aggregate;
        let distinct = is_distinct(expression);
        let mut arguments = aggregate.expressions();
        if aggregate.fun().name() == "count" && !distinct {
            // count(*) counts a literal: nothing to evaluate.
            arguments.retain(|argument| !is_constant(argument));
        }
        let count = arguments.len();
        arguments.extend(aggregate.order_bys().iter().map(|sort| Arc::clone(&sort.expr)));
        let mut types = types_of(&arguments, schema)?;
        let retractable = Retractable::new(&aggregate, &types, count, distinct);
        if retractable.is_recomputed() {
            // Some functions refuse an argument's type only here.
            aggregate.create_accumulator()?;
        } else {
            arguments.truncate(count);
            types.truncate(count);
        }
        retractable.accumulators()?;
        let state = retractable.state_fields();
        let means = Means::Retractable(retractable);
        Ok(Self { aggregate, means, arguments, types, filter: lowered.filter, state })
    }

    /// Whether its result depends on how often its state was written and taken up again: a digest that is merged is rougher.
    pub(super) fn is_digest(&self) -> bool {
        let name = self.aggregate.fun().name();
        matches!(self.means, Means::Function)
            && (name.starts_with("approx_percentile") || name.starts_with("approx_median"))
    }

    /// Whether the call is computed anew from the group's rows whenever the group is touched.
    #[cfg(test)]
    pub(super) fn is_recomputed(&self) -> bool {
        matches!(&self.means, Means::Retractable(retractable) if retractable.is_recomputed())
    }

    /// Evaluates the call's arguments and filter.
    pub(super) fn evaluate(&self, rows: &RecordBatch) -> Result<CallInput> {
        let columns = self
            .arguments
            .iter()
            .map(|argument| Ok(argument.evaluate(rows)?.into_array(rows.num_rows())?))
            .collect::<Result<Vec<_>>>()?;
        let filter = match &self.filter {
            Some(filter) => {
                let answer = filter.evaluate(rows)?.into_array(rows.num_rows())?;
                let answer = answer.as_boolean_opt().cloned();
                Some(answer.ok_or_else(|| Error::internal("an aggregate's FILTER is not a condition"))?)
            }
            None => None,
        };
        Ok(CallInput { columns, filter })
    }

    /// Empty accumulators.
    pub(super) fn accumulators(&self, lifetime: Lifetime) -> Result<Box<dyn Accumulators>> {
        match &self.means {
            Means::Native(native) => native.accumulators(),
            Means::Retractable(retractable) => retractable.accumulators(),
            Means::Distinct(argument) => Ok(Box::new(Distinct::new(argument, Box::new(self.boxed()))?)),
            Means::Function => {
                let grouped = lifetime == Lifetime::Pane && self.sort().is_none();
                if grouped && self.aggregate.groups_accumulator_supported() {
                    return Ok(Box::new(Grouped::new(Arc::clone(&self.aggregate), self.types.clone())?));
                }
                Ok(Box::new(self.boxed()))
            }
        }
    }

    fn boxed(&self) -> Boxed {
        Boxed::new(Arc::clone(&self.aggregate), self.aggregate.expressions().len(), self.sort())
    }

    /// In which order DataFusion's accumulator wants its rows, where it does not sort them itself.
    fn sort(&self) -> Option<Vec<SortOptions>> {
        let wanted = self.aggregate.order_sensitivity() == AggregateOrderSensitivity::HardRequirement;
        wanted.then(|| self.aggregate.order_bys().iter().map(|sort| sort.options).collect())
    }

    /// What [`Accumulators::state`] gives, named so that the columns of several calls differ.
    pub(super) fn state_fields(&self, number: usize) -> Vec<FieldRef> {
        let name = self.aggregate.fun().name();
        let fields = self.state.iter().enumerate();
        fields
            .map(|(part, field)| {
                Arc::new(Field::new(format!("{number}_{name}_{part}"), field.data_type().clone(), true))
            })
            .collect()
    }

    /// The column of a snapshot in which the call's results are kept beside its state, if they must be; see
    /// [`Accumulators::remember`].
    pub(super) fn remembered_field(&self, number: usize) -> Option<FieldRef> {
        let field =
            || Arc::new(Field::new(format!("{number}_shown"), self.aggregate.field().data_type().clone(), true));
        matches!(self.means, Means::Distinct(_) | Means::Function).then(field)
    }

    /// How many columns a state has.
    pub(super) fn state_width(&self) -> usize {
        self.state.len()
    }

    /// Whether a state has a fixed size however many rows it stands for, so that combining rows before they cross
    /// workers saves something.
    pub(super) fn is_combining(&self) -> bool {
        match &self.means {
            Means::Native(native) => !native.is_distinct(),
            Means::Distinct(_) => false,
            Means::Retractable(retractable) => retractable.is_combining(),
            Means::Function => {
                !self.aggregate.is_distinct()
                    && self.aggregate.order_bys().is_empty()
                    && !self.state.iter().any(|field| field.data_type().is_nested())
                    && !GROWING.contains(&self.aggregate.fun().name())
            }
        }
    }
}

/// Functions whose state holds every value although its type does not show it.
const GROWING: [&str; 4] = ["median", "percentile_cont", "string_agg", "array_agg"];

fn is_constant(argument: &Arc<dyn PhysicalExpr>) -> bool {
    argument.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null())
}

fn types_of(expressions: &[Arc<dyn PhysicalExpr>], schema: &DFSchema) -> Result<Vec<DataType>> {
    expressions.iter().map(|expression| Ok(expression.data_type(schema.as_arrow())?)).collect()
}

/// The expressions bound to `schema`.
pub(super) fn bound<'a>(
    expressions: impl Iterator<Item = &'a Expr>,
    schema: &DFSchema,
) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let (props, planning) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    expressions.map(|expression| Ok(create_physical_expr(expression, schema, &props, &planning)?)).collect()
}

/// Functions whose result depends on the order of its rows.
const ORDERED: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

/// The call with an order that leaves nothing to chance: array_agg and string_agg without an order go by value, and ties
/// in an order are broken by the value. The result is then a function of the rows, whatever order they came in.
fn with_canonical_order(expression: &Expr) -> Expr {
    let (name, expression) = match expression {
        Expr::Alias(alias) => return with_canonical_order(&alias.expr).alias(alias.name.clone()),
        Expr::AggregateFunction(call) => (call.func.name().to_owned(), call),
        other => return other.clone(),
    };
    let mut call: AggregateFunction = expression.clone();
    let collects = matches!(name.as_str(), "array_agg" | "string_agg");
    if ORDERED.contains(&name.as_str())
        && (collects || !call.params.order_by.is_empty())
        && let Some(value) = call.params.args.first()
        && !call.params.order_by.iter().any(|sort| sort.expr == *value)
    {
        call.params.order_by.push(SortExpr::new(value.clone(), true, false));
    }
    Expr::AggregateFunction(call)
}

fn is_distinct(expression: &Expr) -> bool {
    match expression {
        Expr::Alias(alias) => is_distinct(&alias.expr),
        Expr::AggregateFunction(call) => call.params.distinct,
        _ => false,
    }
}

fn without_distinct(expression: Expr) -> Expr {
    match expression {
        Expr::Alias(alias) => without_distinct(*alias.expr).alias(alias.name),
        Expr::AggregateFunction(mut call) => {
            call.params.distinct = false;
            Expr::AggregateFunction(call)
        }
        other => other,
    }
}

/// What one call takes of a batch: argument columns and a filter, or (at a final half) state columns.
#[derive(Debug, Clone, Default)]
pub(super) struct CallInput {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) filter: Option<BooleanArray>,
}
