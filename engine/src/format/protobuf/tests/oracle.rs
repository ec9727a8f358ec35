//! Random messages, and what a column has to show of one.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::schema::types::{ValueClass, classify, declared_fields, is_nullable};

/// Makes messages from a seed.
pub(super) struct Source {
    rng: SmallRng,
}

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed) }
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound.max(1))
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A message; required fields are always set.
    pub(super) fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Timestamp" => {
                let seconds = match self.below(4) {
                    0 => -62_135_596_800,
                    1 => 253_402_300_799,
                    2 => self.rng.random_range(-100_000..100_000),
                    _ => self.rng.random_range(-62_135_596_800..=253_402_300_799),
                };
                message.set_field_by_number(1, Value::I64(seconds));
                message.set_field_by_number(2, Value::I32(self.rng.random_range(0..1_000_000_000)));
                return message;
            }
            "google.protobuf.Duration" => {
                let seconds: i64 = self.rng.random_range(-315_576_000_000..=315_576_000_000);
                let nanos = self.rng.random_range(0..1_000_000_000) * seconds.signum() as i32;
                message.set_field_by_number(1, Value::I64(seconds));
                message.set_field_by_number(2, Value::I32(nanos));
                return message;
            }
            _ => {}
        }
        for field in descriptor.fields() {
            if (field.is_required() || self.chance(if depth == 0 { 70 } else { 50 }))
                && let Some(value) = self.field(&field, depth)
            {
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Option<Value> {
        if depth > 4 && matches!(field.kind(), Kind::Message(_)) && !field.is_required() {
            return None;
        }
        let many = if depth > 2 { 2 } else { 4 };
        Some(match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
                let entries = (0..self.below(many)).map(|_| {
                    let key = self.value(&key.kind(), depth).into_map_key().unwrap();
                    (key, self.value(&value.kind(), depth + 1))
                });
                Value::Map(entries.collect())
            }
            kind if field.is_list() => {
                Value::List((0..self.below(many + 1)).map(|_| self.value(&kind, depth + 1)).collect())
            }
            kind => self.value(&kind, depth + 1),
        })
    }

    fn value(&mut self, kind: &Kind, depth: usize) -> Value {
        let special = self.below(6);
        match kind {
            Kind::Bool => Value::Bool(self.chance(50)),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(match special {
                0 => 0,
                1 => i32::MIN,
                2 => i32::MAX,
                3 => self.rng.random_range(-200..200),
                _ => self.rng.random(),
            }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(match special {
                0 => 0,
                1 => i64::MIN,
                2 => i64::MAX,
                3 => self.rng.random_range(-200..200),
                _ => self.rng.random(),
            }),
            Kind::Uint32 | Kind::Fixed32 => {
                Value::U32(if special == 0 { u32::MAX } else { self.rng.random::<u32>() >> self.below(32) })
            }
            Kind::Uint64 | Kind::Fixed64 => {
                Value::U64(if special == 0 { u64::MAX } else { self.rng.random::<u64>() >> self.below(64) })
            }
            Kind::Float => Value::F32(if special == 0 { f32::MIN_POSITIVE } else { self.rng.random::<f32>() * 100.0 }),
            Kind::Double => Value::F64(if special == 0 { f64::INFINITY } else { self.rng.random::<f64>() }),
            Kind::String => {
                let letters = ['a', 'b', 'Z', ' ', 'ä', '√', '🚕'];
                let ascii = self.chance(60);
                let length = self.below(if special < 3 { 13 } else { 40 });
                Value::String((0..length).map(|_| letters[self.below(if ascii { 4 } else { 7 })]).collect())
            }
            Kind::Bytes => {
                let length = self.below(20);
                Value::Bytes((0..length).map(|_| self.rng.random::<u8>()).collect::<Vec<u8>>().into())
            }
            Kind::Enum(values) => {
                let known: Vec<i32> = values.values().map(|value| value.number()).collect();
                let any = values.parent_file().syntax() == prost_reflect::Syntax::Proto3 && special == 0;
                Value::EnumNumber(if any { self.rng.random() } else { known[self.below(known.len())] })
            }
            Kind::Message(message) => Value::Message(self.message(message, depth)),
        }
    }
}

/// Fails unless row `row` of `batch` shows `message`.
pub(super) fn check_row(batch: &RecordBatch, row: usize, message: &DynamicMessage) -> Result<(), String> {
    let descriptor = message.descriptor();
    let ancestors = vec![descriptor.full_name().to_owned()];
    let schema = batch.schema();
    for (column, array) in schema.fields().iter().zip(batch.columns()) {
        let field = descriptor.get_field_by_name(column.name()).ok_or("a column without field")?;
        check_field(&field, message, array, row, &ancestors)
            .map_err(|error| format!("row {row}, {}: {error}", column.name()))?;
    }
    Ok(())
}

fn check_field(
    field: &FieldDescriptor,
    message: &DynamicMessage,
    array: &dyn Array,
    row: usize,
    ancestors: &Vec<String>,
) -> Result<(), String> {
    let present = message.has_field(field) || !is_nullable(field);
    if array.is_null(row) == present {
        return Err(format!("present: {present}, NULL: {}", array.is_null(row)));
    }
    if !present {
        return Ok(());
    }
    let value = message.get_field(field);
    match (value.as_ref(), array.data_type()) {
        (Value::List(values), DataType::List(_)) => {
            let items = array.as_list::<i32>().value(row);
            equal(items.len(), values.len())?;
            for (index, value) in values.iter().enumerate() {
                check_value(field, value, &items, index, ancestors).map_err(|error| format!("[{index}]: {error}"))?;
            }
            Ok(())
        }
        (Value::Map(values), DataType::Map(..)) => {
            let entries = array.as_map().value(row);
            equal(entries.len(), values.len())?;
            let Kind::Message(entry) = field.kind() else { return Err("no map".to_owned()) };
            for index in 0..entries.len() {
                let key = map_key(entries.column(0), index, &entry.map_entry_key_field().kind());
                let value = values.get(&key).ok_or_else(|| format!("a key too many: {key:?}"))?;
                check_value(&entry.map_entry_value_field(), value, entries.column(1), index, ancestors)
                    .map_err(|error| format!("[{key:?}]: {error}"))?;
            }
            Ok(())
        }
        (value, _) => check_value(field, value, array, row, ancestors),
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
    field: &FieldDescriptor,
    value: &Value,
    array: &dyn Array,
    row: usize,
    ancestors: &Vec<String>,
) -> Result<(), String> {
    if array.is_null(row) {
        return Err("NULL".to_owned());
    }
    match (classify(field, ancestors), value) {
        (ValueClass::Scalar(_), value) => check_scalar(value, array, row),
        (ValueClass::Enum(values), Value::EnumNumber(number)) => {
            // Of several names for a number, the one declared first.
            let name = values.get_value(*number).map_or(number.to_string(), |value| value.name().to_owned());
            equal(array.as_string_view().value(row), &name)
        }
        (ValueClass::Timestamp, Value::Message(time)) => {
            let (seconds, nanos) = seconds_and_nanos(time);
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            equal(micros, seconds * 1_000_000 + nanos / 1000)
        }
        (ValueClass::Duration, Value::Message(time)) => {
            let (seconds, nanos) = seconds_and_nanos(time);
            let micros = array.as_primitive::<DurationMicrosecondType>().value(row);
            equal(micros, seconds * 1_000_000 + nanos / 1000)
        }
        (ValueClass::Wrapper(inner), Value::Message(wrapper)) => {
            check_scalar(wrapper.get_field(&inner).as_ref(), array, row)
        }
        (ValueClass::Raw, Value::Message(message)) => {
            let bytes = array.as_binary::<i32>().value(row);
            let decoded = DynamicMessage::decode(message.descriptor(), bytes).map_err(|error| error.to_string())?;
            // To the oracle, a plain field that was set to its default differs from one that was not.
            let message = DynamicMessage::decode(message.descriptor(), message.encode_to_vec().as_slice());
            let message = message.map_err(|error| error.to_string())?;
            // The debug form of a recursive descriptor does not end.
            let (found, expected) = (decoded.to_text_format(), message.to_text_format());
            // NaN is not equal to itself.
            if decoded == message || found.contains("NaN") {
                Ok(())
            } else {
                Err(format!("found {found}, expected {expected}"))
            }
        }
        (ValueClass::Message(descriptor), Value::Message(message)) => {
            let mut ancestors = ancestors.clone();
            ancestors.push(descriptor.full_name().to_owned());
            let fields = array.as_struct();
            for (field, column) in declared_fields(&descriptor).zip(fields.columns()) {
                check_field(&field, message, column, row, &ancestors)
                    .map_err(|error| format!("{}: {error}", field.name()))?;
            }
            Ok(())
        }
        (_, value) => Err(format!("{} and {}", field.full_name(), shown(value))),
    }
}

fn seconds_and_nanos(time: &DynamicMessage) -> (i64, i64) {
    let seconds = time.get_field_by_number(1).unwrap().as_i64().unwrap();
    (seconds, time.get_field_by_number(2).unwrap().as_i32().unwrap().into())
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
