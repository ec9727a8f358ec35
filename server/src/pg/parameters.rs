//! A Bind message's values, as the engine's.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ParamValues;
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;
use pgwire::api::portal::Portal;
use pgwire::api::stmt::StoredStatement;
use pgwire::error::ErrorInfo;
use pgwire::messages::extendedquery::Bind;
use rondel_engine::{Error, ErrorKind};

use super::sqlstate::Fault;

/// The values, each of the type that planning expects where it expects one.
pub(super) fn decode(bind: &Bind, pg_types: &[Type], types: &[DataType]) -> Result<Vec<ScalarValue>, Fault> {
    let formats = bind.parameter_format_codes.len();
    if formats > 1 && formats != bind.parameters.len() {
        let sentence = format!("{formats} parameter formats were given for {} parameters", bind.parameters.len());
        return Err(Fault::new("08P01", sentence));
    }
    if bind.parameters.is_empty() {
        return Ok(Vec::new());
    }
    let known: Vec<Option<DataType>> = (0..bind.parameters.len())
        .map(|index| types.get(index).filter(|data_type| **data_type != DataType::Null).cloned())
        .collect();
    let told = pg_types.iter().map(|pg_type| Some(pg_type.clone())).collect();
    let statement = Arc::new(StoredStatement::new(String::new(), (), told));
    let decoded = Portal::try_new(bind, statement).and_then(|portal| {
        // Conversions that the decoder doesn't know between the client's type and planning's are made below.
        let matching: Vec<Option<&DataType>> = known
            .iter()
            .zip(pg_types)
            .map(|(known, told)| known.as_ref().filter(|known| super::value::pg_type(&field(known)) == *told))
            .collect();
        arrow_pg::datatypes::df::deserialize_parameters(&portal, &matching)
    });
    let values = match decoded.map_err(|error| refused(error.into()))? {
        ParamValues::List(values) => values,
        ParamValues::Map(_) => return Err(Error::internal("parameters have names").into()),
    };
    values
        .into_iter()
        .zip(known)
        .enumerate()
        .map(|(index, (value, known))| match known {
            Some(known) if value.value.data_type() != known => value.value.cast_to(&known).map_err(|error| {
                let sentence = format!("the value of ${} can't be used as {known}: {error}", index + 1);
                Error::new(ErrorKind::DatatypeMismatch, sentence).into()
            }),
            _ => Ok(value.value),
        })
        .collect()
}

fn field(data_type: &DataType) -> arrow::datatypes::Field {
    arrow::datatypes::Field::new("$", data_type.clone(), true)
}

fn refused(report: ErrorInfo) -> Fault {
    let error = Error::new(ErrorKind::Data, format!("a parameter's value can't be read: {}", report.message));
    Fault { state: "22P02", ..error.into() }
}
