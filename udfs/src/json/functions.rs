//! JSON's functions and what stands behind its operators.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, exec_err};

use super::value::{Kind as Json, Value, quote};
use crate::casts::to_text;
use crate::declared::{Gives, Kind, Spec};
use crate::rows::{integers, is_null, strict, text};

const TEXT: Gives = Gives::Type(|| DataType::Utf8);
const BOOLEAN: Gives = Gives::Type(|| DataType::Boolean);

/// A function whose arguments are a JSON value and more.
const fn spec(
    name: &'static str,
    usage: &'static str,
    doc: &'static str,
    takes: &'static [&'static [Kind]],
    gives: Gives,
    run: fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> Spec {
    Spec { name, usage, doc, takes, repeats: false, gives, is_plain: None, run }
}

const ONE: &[&[Kind]] = &[&[Kind::Text]];
const STEP: &[&[Kind]] = &[&[Kind::Text, Kind::Text], &[Kind::Text, Kind::Integer]];
const PATH: &[&[Kind]] = &[&[Kind::Text, Kind::Texts]];
const TWO: &[&[Kind]] = &[&[Kind::Text, Kind::Text]];
const ANY: &[&[Kind]] = &[&[Kind::Any]];

pub(crate) static JSON: &[Spec] = &[
    spec("json", "json(text)", "", ANY, TEXT, |args| {
        let args = [Arc::new(to_text(&args[0])?) as ArrayRef];
        strict::<String, StringArray>(&args, |row| {
            let text = text(&args, 0).value(row);
            read(text).map(|_| Some(text.to_owned()))
        })
    }),
    spec("jsonb", "jsonb(text)", "", ANY, TEXT, |args| {
        let args = [Arc::new(to_text(&args[0])?) as ArrayRef];
        strict::<String, StringArray>(&args, |row| Ok(Some(read(text(&args, 0).value(row))?.normal())))
    }),
    spec("json_get", "json -> name or place", "The member of a name, the element at a place.", STEP, TEXT, |args| {
        step(args, |value| Some(value.text.to_owned()))
    }),
    spec("json_get_text", "json ->> name or place", "The same, as text.", STEP, TEXT, |args| {
        step(args, |value| value.plain())
    }),
    spec("json_at", "json #> '{a,0}'", "The value at the end of a path.", PATH, TEXT, |args| {
        path(args, |value| Some(value.text.to_owned()))
    }),
    spec("json_at_text", "json #>> '{a,0}'", "The same, as text.", PATH, TEXT, |args| {
        path(args, |value| value.plain())
    }),
    spec("json_contains", "json @> json", "Whether all of the second value is in the first.", TWO, BOOLEAN, |args| {
        strict::<bool, BooleanArray>(args, |row| {
            Ok(Some(read(text(args, 0).value(row))?.contains(&read(text(args, 1).value(row))?)))
        })
    }),
    spec("json_has", "json ? name", "Whether a name is a key, or a text an element.", TWO, BOOLEAN, |args| {
        strict::<bool, BooleanArray>(args, |row| {
            Ok(Some(read(text(args, 0).value(row))?.has(text(args, 1).value(row))))
        })
    }),
    spec("json_has_any", "json ?| names", "Whether one of the names is a key.", PATH, BOOLEAN, |args| {
        names(args, |value, names| names.iter().flatten().any(|name| value.has(name)))
    }),
    spec("json_has_all", "json ?& names", "Whether all of the names are keys.", PATH, BOOLEAN, |args| {
        names(args, |value, names| names.iter().flatten().all(|name| value.has(name)))
    }),
    spec("json_typeof", "json_typeof(json)", "object, array, string, number, boolean or null.", ONE, TEXT, |args| {
        strict::<String, StringArray>(args, |row| Ok(Some(read(text(args, 0).value(row))?.type_name().to_owned())))
    }),
    spec(
        "json_array_length",
        "json_array_length(json)",
        "How many elements an array has.",
        ONE,
        Gives::Type(|| DataType::Int32),
        |args| {
            strict::<i32, Int32Array>(args, |row| match read(text(args, 0).value(row))?.kind {
                Json::Array(elements) => Ok(Some(elements.len() as i32)),
                _ => exec_err!("cannot get array length of a non-array"),
            })
        },
    ),
    Spec {
        name: "json_extract_path",
        usage: "json_extract_path(json, name, …)",
        doc: "The value at the end of a path.",
        takes: &[&[Kind::Text, Kind::Text]],
        repeats: true,
        gives: TEXT,
        is_plain: None,
        run: |args| steps(args, |value| Some(value.text.to_owned())),
    },
    Spec {
        name: "json_extract_path_text",
        usage: "json_extract_path_text(json, name, …)",
        doc: "The same, as text.",
        takes: &[&[Kind::Text, Kind::Text]],
        repeats: true,
        gives: TEXT,
        is_plain: None,
        run: |args| steps(args, |value| value.plain()),
    },
    spec("to_json", "to_json(any)", "The value as JSON.", ANY, TEXT, |args| {
        let rows = args[0].len();
        let values =
            (0..rows).map(|row| if is_null(&args[0], row) { Ok(None) } else { json_of(&args[0], row).map(Some) });
        Ok(Arc::new(values.collect::<Result<StringArray>>()?))
    }),
    Spec {
        name: "jsonb_build_object",
        usage: "jsonb_build_object(name, value, …)",
        doc: "An object of names and values.",
        takes: &[&[Kind::Any]],
        repeats: true,
        gives: TEXT,
        is_plain: None,
        run: |args| {
            if args.len() % 2 == 1 {
                return exec_err!("argument list must have even number of elements: names and values take turns");
            }
            built(args, |args, row| {
                let mut members = Vec::with_capacity(args.len() / 2);
                for pair in args.chunks(2) {
                    if is_null(&pair[0], row) {
                        return exec_err!("a name in jsonb_build_object is NULL");
                    }
                    let mut name = String::new();
                    quote(&mut name, to_text(&pair[0].slice(row, 1))?.value(0));
                    members.push(format!("{name}: {}", json_of(&pair[1], row)?));
                }
                Ok(format!("{{{}}}", members.join(", ")))
            })
        },
    },
    Spec {
        name: "jsonb_build_array",
        usage: "jsonb_build_array(value, …)",
        doc: "An array of values.",
        takes: &[&[Kind::Any]],
        repeats: true,
        gives: TEXT,
        is_plain: None,
        run: |args| {
            built(args, |args, row| {
                let elements = args.iter().map(|element| json_of(element, row)).collect::<Result<Vec<_>>>()?;
                Ok(format!("[{}]", elements.join(", ")))
            })
        },
    },
    spec(
        "jsonb_strip_nulls",
        "jsonb_strip_nulls(json)",
        "The value without members that are null.",
        ONE,
        TEXT,
        |args| {
            strict::<String, StringArray>(args, |row| Ok(Some(without_nulls(read(text(args, 0).value(row))?).normal())))
        },
    ),
];

/// The value of a text.
fn read(text: &str) -> Result<Value<'_>> {
    Value::read(text).ok_or_else(|| exec_datafusion_err!("invalid input syntax for type json: \"{}\"", shortened(text)))
}

fn shortened(text: &str) -> String {
    let mut start: String = text.chars().take(60).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

fn step(args: &[ArrayRef], show: fn(&Value<'_>) -> Option<String>) -> Result<ArrayRef> {
    let by_place = args[1].data_type() == &DataType::Int64;
    strict::<String, StringArray>(args, |row| {
        let value = read(text(args, 0).value(row))?;
        let found = match by_place {
            true => value.element(integers(args, 1).value(row)),
            false => value.member(text(args, 1).value(row)),
        };
        Ok(found.and_then(show))
    })
}

fn path(args: &[ArrayRef], show: fn(&Value<'_>) -> Option<String>) -> Result<ArrayRef> {
    let paths = args[1].as_list::<i32>();
    strict::<String, StringArray>(args, |row| {
        let value = read(text(args, 0).value(row))?;
        let steps = paths.value(row);
        let steps = steps.as_string::<i32>();
        if steps.null_count() > 0 {
            return Ok(None);
        }
        Ok(value.at(steps.iter().flatten()).and_then(show))
    })
}

fn steps(args: &[ArrayRef], show: fn(&Value<'_>) -> Option<String>) -> Result<ArrayRef> {
    strict::<String, StringArray>(args, |row| {
        let value = read(text(args, 0).value(row))?;
        let steps = (1..args.len()).map(|place| text(args, place).value(row));
        Ok(value.at(steps).and_then(show))
    })
}

fn names(args: &[ArrayRef], holds: fn(&Value<'_>, &StringArray) -> bool) -> Result<ArrayRef> {
    let lists = args[1].as_list::<i32>();
    strict::<bool, BooleanArray>(args, |row| {
        let value = read(text(args, 0).value(row))?;
        Ok(Some(holds(&value, lists.value(row).as_string::<i32>())))
    })
}

/// One text for each row, NULLs among the arguments or not.
fn built(args: &[ArrayRef], of: fn(&[ArrayRef], usize) -> Result<String>) -> Result<ArrayRef> {
    let rows = args.first().map_or(0, Array::len);
    Ok(Arc::new((0..rows).map(|row| of(args, row).map(Some)).collect::<Result<StringArray>>()?))
}

/// A value of SQL as JSON: numbers and booleans as they are, lists and records as such, everything else as text. A text is
/// a text, also if it holds JSON: there is no type that tells them apart.
fn json_of(array: &ArrayRef, row: usize) -> Result<String> {
    if is_null(array, row) {
        return Ok("null".to_owned());
    }
    let one = array.slice(row, 1);
    Ok(match array.data_type() {
        DataType::List(_) => {
            let elements = one.as_list::<i32>().value(0);
            let elements = (0..elements.len()).map(|row| json_of(&elements, row)).collect::<Result<Vec<_>>>()?;
            format!("[{}]", elements.join(", "))
        }
        DataType::Struct(fields) => {
            let columns = one.as_struct().columns().iter().zip(fields);
            let members = columns.map(|(column, field)| {
                let mut member = String::new();
                quote(&mut member, field.name());
                Ok(format!("{member}: {}", json_of(column, 0)?))
            });
            format!("{{{}}}", members.collect::<Result<Vec<_>>>()?.join(", "))
        }
        DataType::Boolean => one.as_boolean().value(0).to_string(),
        number if number.is_numeric() => {
            let text = to_text(&one)?.value(0).to_owned();
            // JSON has no word for these.
            let finite = !matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity");
            if finite { text } else { format!("\"{text}\"") }
        }
        _ => {
            let mut quoted = String::new();
            quote(&mut quoted, to_text(&one)?.value(0));
            quoted
        }
    })
}

fn without_nulls(value: Value<'_>) -> Value<'_> {
    let kind = match value.kind {
        Json::Object(members) => {
            let kept = members.into_iter().filter(|(_, member)| member.kind != Json::Null);
            Json::Object(kept.map(|(key, member)| (key, without_nulls(member))).collect())
        }
        Json::Array(elements) => Json::Array(elements.into_iter().map(without_nulls).collect()),
        other => other,
    };
    Value { kind, text: value.text }
}
