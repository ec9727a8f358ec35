//! Random messages.

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::schema::{MessageField, TypeRules};

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
