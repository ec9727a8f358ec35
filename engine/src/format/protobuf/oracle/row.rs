//! What the columns have to show of a message.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value};

use super::clean::{self, cleaned};
use super::same::same;
use crate::format::protobuf::json;
use crate::format::protobuf::time::Parts;
use crate::schema::MessageField;
use crate::schema::types::{
    ANY_JSON, MessageColumn, TypeRules, ValueClass, classify, columns_of, is_null_by_default, is_nullable,
};

/// Fails unless row `row` of `batch` shows `message`, by the usual rules.
pub(crate) fn check_row(batch: &RecordBatch, row: usize, message: &DynamicMessage) -> Result<(), String> {
    check_row_by(batch, row, message, &TypeRules::default())
}

/// The same by chosen rules.
pub(crate) fn check_row_by(
    batch: &RecordBatch,
    row: usize,
    message: &DynamicMessage,
    rules: &TypeRules,
) -> Result<(), String> {
    let ancestors = vec![message.descriptor().full_name().to_owned()];
    let columns = columns_of(&message.descriptor(), rules);
    let schema = batch.schema();
    for (shown, array) in schema.fields().iter().zip(batch.columns()) {
        let column = columns.iter().find(|column| match column {
            MessageColumn::Field(field) => field.name() == shown.name(),
            MessageColumn::Case(oneof) => oneof.name() == shown.name(),
        });
        let column = column.ok_or("a column without a field")?;
        check_column(column, message, array, row, &ancestors, rules).map_err(|error| format!("row {row}, {error}"))?;
    }
    Ok(())
}

fn check_column(
    column: &MessageColumn,
    message: &DynamicMessage,
    array: &dyn Array,
    row: usize,
    ancestors: &Vec<String>,
    rules: &TypeRules,
) -> Result<(), String> {
    match column {
        MessageColumn::Field(field) => check_field(field, message, array, row, ancestors, rules)
            .map_err(|error| format!("{}: {error}", field.name())),
        MessageColumn::Case(oneof) => {
            let set = oneof.fields().find(|field| message.has_field(field));
            let shown = array.is_valid(row).then(|| array.as_string_view().value(row).to_owned());
            equal(shown, set.map(|field| field.name().to_owned()))
        }
    }
}

fn has(message: &DynamicMessage, field: &MessageField) -> bool {
    match field {
        MessageField::Own(field) => message.has_field(field),
        MessageField::Extension(extension) => message.has_extension(extension),
    }
}

fn get(message: &DynamicMessage, field: &MessageField) -> Value {
    match field {
        MessageField::Own(field) => message.get_field(field).into_owned(),
        MessageField::Extension(extension) => message.get_extension(extension).into_owned(),
    }
}

fn check_field(
    field: &MessageField,
    message: &DynamicMessage,
    array: &dyn Array,
    row: usize,
    ancestors: &Vec<String>,
    rules: &TypeRules,
) -> Result<(), String> {
    let value = get(message, field);
    // Bits, since −0.0 is no default.
    let is_default = match &value {
        Value::F32(number) => number.to_bits() == 0,
        Value::F64(number) => number.to_bits() == 0,
        value => *value == field.default_value(),
    };
    let null = !has(message, field) && is_nullable(field, rules) || is_null_by_default(field, rules) && is_default;
    if array.is_null(row) != null {
        return Err(format!("should be NULL: {null}, is: {}", array.is_null(row)));
    }
    if null {
        return Ok(());
    }
    match (&value, array.data_type()) {
        (Value::List(values), DataType::List(_)) => {
            let items = array.as_list::<i32>().value(row);
            equal(items.len(), values.len())?;
            for (index, value) in values.iter().enumerate() {
                check_value(field, value, &items, index, ancestors, rules)
                    .map_err(|error| format!("[{index}]: {error}"))?;
            }
            Ok(())
        }
        (Value::Map(values), DataType::Map(..)) => {
            let entries = array.as_map().value(row);
            equal(entries.len(), values.len())?;
            let Kind::Message(entry) = field.kind() else { return Err("no map".to_owned()) };
            let value_field = MessageField::Own(entry.map_entry_value_field());
            for index in 0..entries.len() {
                let key = map_key(entries.column(0), index, &entry.map_entry_key_field().kind());
                let value = values.get(&key).ok_or_else(|| format!("a key too many: {key:?}"))?;
                check_value(&value_field, value, entries.column(1), index, ancestors, rules)
                    .map_err(|error| format!("[{key:?}]: {error}"))?;
            }
            Ok(())
        }
        (value, _) => check_value(field, value, array, row, ancestors, rules),
    }
}

fn map_key(array: &dyn Array, row: usize, kind: &Kind) -> MapKey {
    match (array.data_type(), kind) {
        (DataType::Boolean, _) => MapKey::Bool(array.as_boolean().value(row)),
        (DataType::Int32, _) => MapKey::I32(array.as_primitive::<Int32Type>().value(row)),
        (DataType::Int64, Kind::Uint32 | Kind::Fixed32) => {
            MapKey::U32(array.as_primitive::<Int64Type>().value(row) as u32)
        }
        (DataType::Int64, _) => MapKey::I64(array.as_primitive::<Int64Type>().value(row)),
        (DataType::Decimal128(..), _) => MapKey::U64(array.as_primitive::<Decimal128Type>().value(row) as u64),
        (DataType::Utf8, _) => MapKey::String(array.as_string::<i32>().value(row).to_owned()),
        (other, _) => panic!("a key of type {other}"),
    }
}

fn check_value(
    field: &MessageField,
    value: &Value,
    array: &dyn Array,
    row: usize,
    ancestors: &Vec<String>,
    rules: &TypeRules,
) -> Result<(), String> {
    if array.is_null(row) {
        return Err("NULL".to_owned());
    }
    match (classify(field, ancestors, rules), value) {
        (ValueClass::Scalar(_), value) => check_scalar(value, array, row),
        (ValueClass::Enum(_), Value::EnumNumber(number)) if rules.enum_numbers => {
            equal(array.as_primitive::<Int32Type>().value(row), *number)
        }
        (ValueClass::Enum(values), Value::EnumNumber(number)) => {
            // Of several names for a number, the one declared first.
            let name = values.get_value(*number).map_or(number.to_string(), |value| value.name().to_owned());
            equal(array.as_string_view().value(row), &name)
        }
        (ValueClass::Timestamp, Value::Message(time)) => {
            let Parts { seconds, nanos } = clean::time(time);
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            equal(micros, seconds * 1_000_000 + i64::from(nanos) / 1000)
        }
        (ValueClass::Duration, Value::Message(time)) => {
            let Parts { seconds, nanos } = clean::time(time);
            let micros = array.as_primitive::<DurationMicrosecondType>().value(row);
            equal(micros, seconds * 1_000_000 + i64::from(nanos) / 1000)
        }
        (ValueClass::Wrapper(inner), Value::Message(wrapper)) => {
            check_scalar(wrapper.get_field(&inner).as_ref(), array, row)
        }
        (ValueClass::Json(kind), Value::Message(message)) => {
            let found = array.as_string_view().value(row);
            let expected = json::json(kind, &message.encode_to_vec()).map_err(|error| error.to_string())?;
            equal(found, expected.to_string().as_str())?;
            // And back: the same message, if JSON says all that it does.
            let again = json::message(kind, found)?;
            let again = DynamicMessage::decode(message.descriptor(), again.as_slice());
            let again = again.map_err(|error| error.to_string())?;
            if says_all(message) { same(&again, message) } else { Ok(()) }
        }
        (ValueClass::Raw(_), Value::Message(message)) => {
            let bytes = array.as_binary::<i32>().value(row);
            // The column keeps unknown fields, which the message to compare with was made without.
            let bytes = cleaned(&message.descriptor(), bytes).map_err(|error| format!("{error:?}"))?;
            let decoded =
                DynamicMessage::decode(message.descriptor(), bytes.as_slice()).map_err(|error| error.to_string())?;
            // To `==`, NaN is not itself, and a plain field that was set to its default differs from one that was not.
            same(&decoded, message).map_err(|error| {
                // The debug form of a recursive descriptor does not end.
                format!("{error}: found {}, expected {}", decoded.to_text_format(), message.to_text_format())
            })
        }
        (ValueClass::Message(descriptor), Value::Message(message)) => {
            let mut ancestors = ancestors.clone();
            ancestors.push(descriptor.full_name().to_owned());
            let fields = array.as_struct();
            for (field, column) in columns_of(&descriptor, rules).iter().zip(fields.columns()) {
                check_column(field, message, column, row, &ancestors, rules)?;
            }
            match fields.column_by_name(ANY_JSON) {
                Some(json) if descriptor.full_name() == "google.protobuf.Any" => check_any(message, json, row),
                _ => Ok(()),
            }
        }
        (_, value) => Err(format!("{} and {}", field.full_name(), shown(value))),
    }
}

/// Whether JSON says all that a `Value`, `Struct` or `ListValue` does, so that the same one is made of it.
fn says_all(message: &DynamicMessage) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::Message(inner) => says_all(inner),
            Value::List(values) => values.iter().all(inside),
            Value::Map(entries) => entries.values().all(inside),
            // NaN and the infinities are texts.
            Value::F64(number) => number.is_finite(),
            // There is one null, whatever number it has.
            Value::EnumNumber(number) => *number == 0,
            _ => true,
        }
    }
    // A map's entry without a value has one of no kind, which is shown as NULL is.
    let is_nothing = message.descriptor().full_name() == "google.protobuf.Value" && message.fields().next().is_none();
    !is_nothing && message.fields().all(|(_, value)| inside(value))
}

/// An Any's contents are shown where its type is known and its bytes are of it.
fn check_any(message: &DynamicMessage, json: &dyn Array, row: usize) -> Result<(), String> {
    let url = message.get_field_by_number(1).unwrap();
    let bytes = message.get_field_by_number(2).unwrap();
    let name = url.as_str().unwrap().rsplit_once('/').map(|(_, name)| name.to_owned());
    let descriptor = name.and_then(|name| message.descriptor().parent_pool().get_message_by_name(&name));
    let known = descriptor.and_then(|descriptor| DynamicMessage::decode(descriptor, bytes.as_bytes()?.clone()).ok());
    if known.is_none() { equal(json.is_null(row), true) } else { Ok(()) }
}

fn check_scalar(value: &Value, array: &dyn Array, row: usize) -> Result<(), String> {
    match (value, array.data_type()) {
        (Value::Bool(value), DataType::Boolean) => equal(array.as_boolean().value(row), *value),
        (Value::I32(value), DataType::Int32) => equal(array.as_primitive::<Int32Type>().value(row), *value),
        (Value::I64(value), DataType::Int64) => equal(array.as_primitive::<Int64Type>().value(row), *value),
        (Value::U32(value), DataType::Int64) => equal(array.as_primitive::<Int64Type>().value(row), i64::from(*value)),
        (Value::U64(value), DataType::Decimal128(20, 0)) => {
            equal(array.as_primitive::<Decimal128Type>().value(row), i128::from(*value))
        }
        (Value::F32(value), DataType::Float32) => {
            equal(array.as_primitive::<Float32Type>().value(row).to_bits(), value.to_bits())
        }
        (Value::F64(value), DataType::Float64) => {
            equal(array.as_primitive::<Float64Type>().value(row).to_bits(), value.to_bits())
        }
        (Value::String(value), DataType::Utf8View) => equal(array.as_string_view().value(row), value),
        (Value::Bytes(value), DataType::Binary) => equal(array.as_binary::<i32>().value(row), &value[..]),
        (value, other) => Err(format!("{} in a column of type {other}", shown(value))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Message(message) => message.to_text_format(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
        value => format!("{value:?}"),
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("found {found:?}, expected {expected:?}")) }
}

#[cfg(test)]
mod tests {
    use crate::format::protobuf::oracle::Case;
    use crate::schema::TypeRules;

    /// A field that is delimited, in one byte each of tag and length.
    fn field(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag, body.len() as u8], body].concat()
    }

    fn double(tag: u8, number: f64) -> Vec<u8> {
        [&[tag], &number.to_le_bytes()[..]].concat()
    }

    /// A `p3.Node` whose `other.json` is this `Value`.
    fn node(value: &[u8]) -> Vec<u8> {
        field(0x2a, &field(0x1a, value))
    }

    fn check(name: &str, records: &[Vec<u8>]) {
        assert_eq!(Case::new(name, TypeRules::default()).check(records), records.len());
    }

    /// Found by mutated messages: `==` says that they are others than they are.
    #[test]
    fn messages_that_stay_bytes_are_compared_by_what_they_say() {
        let entry = |key: u8| field(0x22, &[0x0a, 1, key, 0x12, 0]);
        let nan = node(&double(0x11, f64::NAN));
        // With a plain field that is set to its default.
        let inner = [nan, vec![0x08, 0], entry(b'a'), entry(b'b')].concat();
        check("p3.Node", &[field(0x12, &inner), field(0x22, &[&[0x0a, 1, b'k'], &field(0x12, &inner)[..]].concat())]);
        // −0.0 in a plain field.
        check("p3.Choice", &[field(0x4a, &field(0x22, &double(0x09, -0.0)))]);
    }

    #[test]
    fn json_that_is_made_of_more_than_it_says() {
        let mut numbers =
            vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1.0, 12.500000000000002, f64::MIN_POSITIVE];
        // Of seventeen digits, where the number beside one is soon read.
        numbers.extend((1..2000).map(|n| f64::from_bits(0x3ff0_1234_5678_9abc + n * 0x0003_1415_9265_3589)));
        let mut records: Vec<_> = numbers.iter().map(|number| node(&double(0x11, *number))).collect();
        // Null by another number; nothing at all; a text; a list of null by another number and NaN.
        let list = [field(0x0a, &[0x08, 88]), field(0x0a, &double(0x11, f64::NAN))].concat();
        records.extend([node(&[0x08, 88]), node(&[]), node(&field(0x1a, b"NaN")), node(&field(0x32, &list))]);
        check("p3.Node", &records);
    }
}
