//! Which types of columns a field takes.

use arrow::datatypes::DataType;
use prost_reflect::Kind;

/// A type as a user of SQL knows it.
pub(super) fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 | DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE PRECISION".to_owned(),
        DataType::Decimal128(precision, scale) => format!("NUMERIC({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTEA".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::Duration(_) | DataType::Interval(_) => "INTERVAL".to_owned(),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "an array".to_owned(),
        DataType::Map(..) => "a map".to_owned(),
        DataType::Struct(_) => "a struct".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

pub(super) fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// Integers of any width, and decimals without fraction: their values are checked.
pub(super) fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Decimal128(_, 0))
}

/// Whether every value of the type is a value of the scalar, or is one after a check.
pub(super) fn scalar_fits(kind: &Kind, data_type: &DataType) -> bool {
    use DataType as T;
    match kind {
        Kind::Bool => matches!(data_type, T::Boolean),
        Kind::Float => matches!(data_type, T::Float16 | T::Float32 | T::Int8 | T::Int16 | T::UInt8 | T::UInt16),
        Kind::Double => {
            let floats = matches!(data_type, T::Float16 | T::Float32 | T::Float64);
            floats || data_type.is_integer() && !matches!(data_type, T::Int64 | T::UInt64)
        }
        Kind::String => is_text(data_type),
        Kind::Bytes => is_bytes(data_type),
        Kind::Enum(_) | Kind::Message(_) => false,
        _ => is_integer(data_type),
    }
}
