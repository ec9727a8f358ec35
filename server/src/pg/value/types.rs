//! Which PostgreSQL type stands for an Arrow type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use pgwire::api::Type;

/// The PostgreSQL type that the column is announced with.
pub(crate) fn pg_type(field: &Field) -> Type {
    match field.data_type() {
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => Type::NUMERIC,
        DataType::Null => Type::TEXT,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => match pg_type(item) {
            item if item == Type::JSON => Type::JSON,
            _ => arrow_pg::datatypes::field_into_pg_type(&Arc::new(field.clone())).unwrap_or(Type::JSON),
        },
        DataType::Struct(fields) if fields.iter().any(|field| pg_type(field) == Type::JSON) => Type::JSON,
        DataType::Dictionary(_, value) => pg_type(&Field::new(field.name(), value.as_ref().clone(), true)),
        DataType::Map(..) => Type::JSON,
        DataType::Union(..) | DataType::RunEndEncoded(..) => Type::TEXT,
        _ => arrow_pg::datatypes::field_into_pg_type(&Arc::new(field.clone())).unwrap_or(Type::JSON),
    }
}

/// Whether values of this type are written as JSON, whatever their Arrow type.
pub(crate) fn is_json(pg_type: &Type) -> bool {
    *pg_type == Type::JSON
}

/// `pg_type.typlen`: bytes of a value of fixed size, −1 otherwise.
pub(crate) fn type_size(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// `pg_attribute.atttypmod`: precision and scale of a decimal, −1 otherwise.
pub(crate) fn type_modifier(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *scale >= 0 =>
        {
            ((i32::from(*precision) << 16) | i32::from(*scale)) + 4
        }
        _ => -1,
    }
}
