//! `LATE ROWS TO name`: who takes rows that come too late.

use arrow::datatypes::SchemaRef;

use crate::catalog::unknown;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Live, open_for_late_rows};
use crate::plan::ContinuousPlan;
use crate::sql::quoted;

impl Engine {
    /// Fits a plan's late rows to their target, which it then uses: those of their columns that the target has.
    pub(super) fn fit_late_rows(&self, plan: &mut ContinuousPlan) -> Result<()> {
        let Some(late) = &plan.flow.late else { return Ok(()) };
        let target = late.target.clone();
        let fitted = match self.live.get(&target) {
            Some(Live::Sink { definition, own: None }) => {
                let places = places(&late.schema, definition.columns().as_ref(), &target)?;
                let late = late.projected(&places)?;
                // Opened once for the check alone.
                open_for_late_rows(&*definition, &target, &late.schema)?;
                late
            }
            Some(Live::Sink { own: Some(_), .. }) => {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("sink '{target}' has a query of its own and takes no late rows"),
                )
                .with_hint("create a sink without AS for them"));
            }
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("'{target}' takes no late rows: it is no sink"),
                )
                .with_hint(format!("CREATE SINK takes_late WITH (…), then LATE ROWS TO {}", quoted("takes_late"))));
            }
            None => return Err(unknown(&target)),
        };
        plan.flow.late = Some(fitted);
        plan.reads.push(target);
        Ok(())
    }
}

/// The columns of late rows that a target has, by name; all of them if it takes what comes.
fn places(late: &SchemaRef, target: Option<&SchemaRef>, name: &str) -> Result<Vec<usize>> {
    let has = |column: &String| target.is_none_or(|target| target.fields().iter().any(|field| field.name() == column));
    let fields = late.fields().iter().enumerate();
    let places: Vec<usize> = fields.filter(|(_, field)| has(field.name())).map(|(place, _)| place).collect();
    if !places.is_empty() {
        return Ok(places);
    }
    let names: Vec<&str> = late.fields().iter().map(|field| field.name().as_str()).collect();
    Err(Error::invalid(format!("'{name}' has none of the columns of this query's late rows"))
        .with_hint(format!("late rows have the columns {}", names.join(", "))))
}
