//! `event_timestamp.seconds`: a timestamp of protobuf has fields, and queries that were written for its message name them.

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::functions::expr_fn::{date_part, floor};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::{Expr, cast, lit};

/// Plans `seconds` and `nanos` of a timestamp.
#[derive(Debug)]
pub(super) struct TimeFields;

impl ExprPlanner for TimeFields {
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> PlanResult<PlannerResult<Vec<Expr>>> {
        let (DataType::Timestamp(..), [name]) = (field.data_type(), nested_names) else {
            return Ok(PlannerResult::Original(Vec::new()));
        };
        let time = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        Ok(match name.as_str() {
            "seconds" => {
                PlannerResult::Planned(cast(floor(date_part(lit("epoch"), time)), DataType::Int64).alias("seconds"))
            }
            "nanos" => {
                let nanos = cast(date_part(lit("nanosecond"), time), DataType::Int64) % lit(1_000_000_000_i64);
                PlannerResult::Planned(cast(nanos, DataType::Int32).alias("nanos"))
            }
            _ => PlannerResult::Original(Vec::new()),
        })
    }
}
