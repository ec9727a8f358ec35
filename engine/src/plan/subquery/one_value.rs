//! A subquery that stands for a value and names the row outside, and that nothing says has one row at most: a second row
//! is an error when it comes, as in PostgreSQL. (DataFusion takes aggregates only.)

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Column;
use datafusion::common::cast::as_primitive_array;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::functions_aggregate::count::count_all;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprFunctionExt, Filter, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, ErrorKind};

static ONE_VALUE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(OneValue::default())));

/// The subquery as an aggregate, if it is none and may have several rows.
pub(in crate::plan) fn aggregated(plan: &LogicalPlan) -> PlanResult<Option<LogicalPlan>> {
    if is_aggregate(plan) || plan.max_rows().is_some_and(|rows| rows <= 1) {
        return Ok(None);
    }
    let Some(column) = plan.schema().columns().into_iter().next() else { return Ok(None) };
    let (count, value) = (count_all(), Expr::Column(column.clone()));
    let order = vec![Sort::new(value.clone(), true, false)];
    let first = first_value_udaf().call(vec![value]).order_by(order).build()?;
    let named = |expr: &Expr| Expr::Column(Column::from_name(expr.schema_name().to_string()));
    let only = ONE_VALUE.call(vec![named(&count), named(&first)]).alias_qualified(column.relation, column.name);
    let plan = LogicalPlanBuilder::from(plan.clone()).aggregate(Vec::<Expr>::new(), vec![count, first])?;
    plan.project(vec![only])?.build().map(Some)
}

/// Whether it is an aggregate of all rows, which DataFusion knows as one row.
fn is_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(of) => of.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => is_aggregate(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_aggregate(&alias.input),
        LogicalPlan::Filter(Filter { input, .. }) => {
            matches!(&**input, LogicalPlan::Aggregate(of) if of.group_expr.is_empty())
        }
        _ => false,
    }
}

/// `(how many rows, the first one's value)`: the value, if there is no second row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneValue {
    signature: Signature,
}

impl Default for OneValue {
    fn default() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OneValue {
    fn name(&self) -> &str {
        "rondel_one_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        match arguments {
            [_, value] => Ok(value.clone()),
            _ => Err(DataFusionError::Internal("a value and how many there are".to_owned())),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let [count, value] = <[ColumnarValue; 2]>::try_from(args.args)
            .map_err(|_| DataFusionError::Internal("a value and how many there are".to_owned()))?;
        let counts = count.into_array(args.number_rows)?;
        match as_primitive_array::<Int64Type>(&counts)?.iter().flatten().find(|count| *count > 1) {
            None => Ok(value),
            Some(rows) => {
                Err(Error::new(ErrorKind::Data, format!("a subquery that stands for a value has {rows} rows"))
                    .with_code("21000")
                    .with_hint("make it one row: an aggregate without GROUP BY has one, and ORDER BY … LIMIT 1")
                    .into())
            }
        }
    }
}
