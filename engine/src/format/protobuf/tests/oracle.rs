//! Random messages, and what a column has to show of one.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::format::protobuf::json;
use crate::schema::types::{
    ANY_JSON, JsonKind, MessageColumn, TypeRules, ValueClass, classify, columns_of, is_null_by_default, is_nullable,
};
use crate::schema::{MessageField, fields_of};

/// Makes messages from a seed.
pub(super) struct Source {
    rng: SmallRng,
    whole_micros: bool,
}

impl Source {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), whole_micros: false }
    }

    /// One whose times have no digits that a column can't hold.
    pub(super) fn of_whole_micros(seed: u64) -> Self {
        Self { whole_micros: true, ..Self::new(seed) }
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
                message.set_field_by_number(2, Value::I32(self.nanos(1_000_000_000)));
                return message;
            }
            "google.protobuf.Duration" => {
                let seconds: i64 = self.rng.random_range(-315_576_000_000..=315_576_000_000);
                let nanos = self.nanos(1_000_000_000) * seconds.signum() as i32;
                message.set_field_by_number(1, Value::I64(seconds));
                message.set_field_by_number(2, Value::I32(nanos));
                return message;
            }
            "google.protobuf.Value" => {
                let fields: Vec<_> = descriptor.fields().collect();
                let leaves = if depth > 3 { 4 } else { 6 };
                let field = &fields[self.below(leaves)];
                let value = match field.kind() {
                    // JSON has no infinity.
                    Kind::Double => Value::F64(self.rng.random_range(-1000..1000) as f64 / 8.0),
                    Kind::Enum(_) => Value::EnumNumber(0),
                    kind => self.value(&kind, depth + 1),
                };
                message.set_field(field, value);
                return message;
            }
            _ => {}
        }
        for extension in descriptor.extensions().filter(|_| !descriptor.full_name().starts_with("google.")) {
            if self.chance(50) {
                let kind = extension.kind();
                let value = match extension.is_list() {
                    true => Value::List((0..self.below(3)).map(|_| self.value(&kind, depth + 1)).collect()),
                    false => self.value(&kind, depth + 1),
                };
                message.set_extension(&extension, value);
            }
        }
        // A message of a hundred fields that holds itself would grow without measure.
        let percent = match (descriptor.fields().len() > 40, depth) {
            (false, 0) => 70,
            (false, _) => 50,
            (true, 0) => 40,
            (true, _) => 8,
        };
        for field in descriptor.fields().map(MessageField::Own) {
            if (field.is_required() || self.chance(percent))
                && let Some(value) = self.field(&field, depth)
                && let MessageField::Own(field) = &field
            {
                message.set_field(field, value);
            }
        }
        message
    }

    /// Nanoseconds that are whole microseconds, if this source was told so.
    fn nanos(&mut self, below: i32) -> i32 {
        let nanos = self.rng.random_range(0..below);
        if self.whole_micros { nanos / 1000 * 1000 } else { nanos }
    }

    fn field(&mut self, field: &MessageField, depth: usize) -> Option<Value> {
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

/// Any choice of the columns' rules; as often as not the usual one.
pub(super) fn any_rules(source: &mut Source) -> TypeRules {
    if source.chance(50) {
        return TypeRules::default();
    }
    TypeRules {
        enum_numbers: source.chance(50),
        unset_is_null: source.chance(50),
        oneof_case: source.chance(50),
        recursion_depth: source.below(3),
    }
}

/// How many cases a test of random ones runs: `RONDEL_PROTOBUF_CASES`, or so many.
pub(super) fn cases(usual: u32) -> u32 {
    std::env::var("RONDEL_PROTOBUF_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// Fails unless row `row` of `batch` shows `message`, by the usual rules.
pub(super) fn check_row(batch: &RecordBatch, row: usize, message: &DynamicMessage) -> Result<(), String> {
    check_row_by(batch, row, message, &TypeRules::default())
}

/// The same by chosen rules.
pub(super) fn check_row_by(
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
        (ValueClass::Json(kind), Value::Message(message)) => {
            let found: serde_json::Value =
                serde_json::from_str(array.as_string_view().value(row)).map_err(|error| error.to_string())?;
            let bytes = message.encode_to_vec();
            equal(found, json::json(kind, &bytes).map_err(|error| error.to_string())?)?;
            // And back: the same message, if it says all that it could.
            let again = json::message(kind, array.as_string_view().value(row))?;
            let again = DynamicMessage::decode(message.descriptor(), again.as_slice());
            let again = again.map_err(|error| error.to_string())?;
            match kind {
                JsonKind::Value | JsonKind::Struct | JsonKind::List if says_all(message) => {
                    equal(again.to_text_format(), message.to_text_format())
                }
                _ => Ok(()),
            }
        }
        (ValueClass::Raw(_), Value::Message(message)) => {
            let bytes = array.as_binary::<i32>().value(row);
            // The column keeps unknown fields, which the message to compare with was made without.
            let bytes = cleaned(&message.descriptor(), bytes).map_err(|error| format!("{error:?}"))?;
            let decoded =
                DynamicMessage::decode(message.descriptor(), bytes.as_slice()).map_err(|error| error.to_string())?;
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

/// Whether every `Value` in it is one, and no number or map is one that JSON has in another way.
fn says_all(message: &DynamicMessage) -> bool {
    let text = message.to_text_format();
    !text.contains("inf")
        && !text.contains("nan")
        && !text.contains("{}")
        && message.unknown_fields().next().is_none()
        && message.encoded_len() < 200
        && text.matches("key").count() < 2
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

/// Why a record is refused.
#[derive(Debug)]
pub(super) struct Malformed;

/// A record as the specification has it, for an oracle that is less exact: fields that come with another wire type than
/// theirs are unknown, and unknown ones are left out. Fails where the bytes are no fields, or a time is out of range.
pub(super) fn cleaned(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    clean(descriptor, bytes, 0)
}

fn clean(descriptor: &MessageDescriptor, mut rest: &[u8], depth: u32) -> Result<Vec<u8>, Malformed> {
    use crate::format::protobuf::compile::wire_type;
    use crate::format::protobuf::decode::{duration, timestamp};
    use crate::format::protobuf::wire;
    if depth >= 100 {
        return Err(Malformed);
    }
    let fields = fields_of(descriptor);
    let mut out = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let tag = wire::read_tag(&mut rest).map_err(|_| Malformed)?;
        let field = fields.iter().find(|field| field.number() == tag >> 3);
        let packable = |field: &MessageField| {
            field.is_list() && !matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_))
        };
        let fits = field.filter(|field| wire_type(field) == tag & 7 || packable(field) && tag & 7 == wire::DELIMITED);
        let message = fits.and_then(|field| match field.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        });
        if let Some(message) = message {
            let group = tag & 7 == wire::START_GROUP;
            let body = match group {
                true => wire::group(tag >> 3, &mut rest, 0).map_err(|_| Malformed)?,
                false => wire::delimited(&mut rest).ok_or(Malformed)?,
            };
            match message.full_name() {
                "google.protobuf.Timestamp" => timestamp(body, &mut 0).map_err(|_| Malformed)?,
                "google.protobuf.Duration" => duration(body, &mut 0).map_err(|_| Malformed)?,
                _ => {}
            }
            let body = clean(&message, body, depth + 1)?;
            if group {
                prost::encoding::encode_key(tag >> 3, prost::encoding::WireType::StartGroup, &mut out);
                out.extend(body);
                prost::encoding::encode_key(tag >> 3, prost::encoding::WireType::EndGroup, &mut out);
            } else {
                prost::encoding::bytes::encode(tag >> 3, &body, &mut out);
            }
            continue;
        }
        wire::skip(tag, &mut rest, 0).map_err(|_| Malformed)?;
        if fits.is_some() {
            out.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Ok(out)
}

/// Whether something that is required is missing.
pub(super) fn lacks_required(message: &DynamicMessage) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::Message(inner) => lacks_required(inner),
            Value::List(values) => values.iter().any(inside),
            Value::Map(entries) => entries.values().any(inside),
            _ => false,
        }
    }
    message.descriptor().fields().any(|field| field.is_required() && !message.has_field(&field))
        || message.fields().any(|(_, value)| inside(value))
        || message.extensions().any(|(_, value)| inside(value))
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
