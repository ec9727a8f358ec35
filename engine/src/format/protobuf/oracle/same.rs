//! Whether two messages say the same. `tests/protobuf` compiles this file as well.

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

/// Whether two messages say the same, bit by bit: NaN equals itself. Fields that hold their default and have no presence
/// are as good as absent.
pub(crate) fn same(one: &DynamicMessage, other: &DynamicMessage) -> Result<(), String> {
    for field in one.descriptor().fields() {
        let (present, there) = (one.has_field(&field), other.has_field(&field));
        if field.supports_presence() && present != there {
            return Err(format!("{}: set: {present} and {there}", field.name()));
        }
        if field.supports_presence() && !present {
            continue;
        }
        same_value(&one.get_field(&field), &other.get_field(&field))
            .map_err(|error| format!("{}: {error}", field.name()))?;
    }
    for extension in one.descriptor().extensions() {
        if !one.has_extension(&extension) && !other.has_extension(&extension) {
            continue;
        }
        same_value(&one.get_extension(&extension), &other.get_extension(&extension))
            .map_err(|error| format!("{}: {error}", extension.full_name()))?;
    }
    Ok(())
}

/// A value in words; the debug form of a message with a recursive descriptor does not end.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Message(message) => message.to_text_format(),
        Value::List(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            format!("{:?}", entries.iter().map(|(key, value)| (key, shown(value))).collect::<Vec<_>>())
        }
        value => format!("{value:?}"),
    };
    text.chars().take(300).collect()
}

fn same_value(one: &Value, other: &Value) -> Result<(), String> {
    let differ = || Err(format!("{} and {}", shown(one), shown(other)));
    match (one, other) {
        (Value::Message(one), Value::Message(other)) => same(one, other),
        (Value::F32(one), Value::F32(other)) if one.to_bits() == other.to_bits() => Ok(()),
        (Value::F64(one), Value::F64(other)) if one.to_bits() == other.to_bits() => Ok(()),
        (Value::F32(_) | Value::F64(_), _) => differ(),
        (Value::List(ones), Value::List(others)) if ones.len() == others.len() => {
            ones.iter().zip(others).try_for_each(|(one, other)| same_value(one, other))
        }
        (Value::Map(ones), Value::Map(others)) if ones.len() == others.len() => {
            ones.iter().try_for_each(|(key, one)| match others.get(key) {
                Some(other) => same_value(one, other),
                None => Err(format!("{key:?} is missing")),
            })
        }
        _ if one == other => Ok(()),
        _ => differ(),
    }
}
