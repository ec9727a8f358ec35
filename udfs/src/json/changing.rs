//! JSON values that are made of others: a member set or taken away, and the form for people.

use super::value::{Kind, Value, quote};

/// The value with another at the end of a path: in the place of what is there, or, if it may be made, as a new member or
/// element. Where the path does not lead to a place the value stays as it is.
pub(super) fn set<'a>(value: Value<'a>, path: &[&str], new: &Value<'a>, may_make: bool) -> Value<'a> {
    let Some((step, rest)) = path.split_first() else { return value };
    let text = value.text;
    let kind = match value.kind {
        Kind::Object(mut members) => {
            match members.iter().rposition(|(key, _)| key == step) {
                Some(place) => {
                    let (key, old) = members.remove(place);
                    members.push((key, if rest.is_empty() { new.clone() } else { set(old, rest, new, may_make) }));
                }
                None if rest.is_empty() && may_make => members.push(((*step).to_owned(), new.clone())),
                None => {}
            }
            Kind::Object(members)
        }
        Kind::Array(mut elements) => {
            match place_of(step, elements.len()) {
                Some(place) if place < elements.len() as i64 && place >= 0 => {
                    let place = place as usize;
                    let new =
                        if rest.is_empty() { new.clone() } else { set(elements[place].clone(), rest, new, may_make) };
                    elements[place] = new;
                }
                Some(place) if rest.is_empty() && may_make => {
                    let at = if place < 0 { 0 } else { elements.len() };
                    elements.insert(at, new.clone());
                }
                _ => {}
            }
            Kind::Array(elements)
        }
        other => other,
    };
    Value { kind, text }
}

/// A place in an array, from its end if it is written with a minus.
fn place_of(step: &str, length: usize) -> Option<i64> {
    let place: i64 = step.parse().ok()?;
    Some(if place < 0 { place.checked_add(length as i64)? } else { place })
}

/// The value without the members of a name, or without the texts among its elements that are it.
pub(super) fn without<'a>(value: Value<'a>, name: &str) -> Value<'a> {
    let kind = match value.kind {
        Kind::Object(members) => Kind::Object(members.into_iter().filter(|(key, _)| key != name).collect()),
        Kind::Array(elements) => {
            let is_it = |element: &Value<'_>| matches!(&element.kind, Kind::Text(text) if text == name);
            Kind::Array(elements.into_iter().filter(|element| !is_it(element)).collect())
        }
        other => other,
    };
    Value { kind, text: value.text }
}

/// The value on several lines, as `jsonb_pretty` writes it.
pub(super) fn pretty(value: &Value<'_>) -> String {
    let mut out = String::new();
    write_pretty(value, 0, &mut out);
    out
}

fn write_pretty(value: &Value<'_>, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    match &value.kind {
        Kind::Array(elements) => {
            out.push('[');
            for (place, element) in elements.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                write_pretty(element, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        Kind::Object(_) => {
            out.push('{');
            for (place, (key, member)) in value.members().into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                quote(out, key);
                out.push_str(": ");
                write_pretty(member, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        _ => out.push_str(&value.normal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value<'_> {
        Value::read(text).unwrap()
    }

    #[test]
    fn members_and_elements_are_set() {
        for (text, path, may_make, expected) in [
            (r#"{"a": 1}"#, &["b"][..], true, r#"{"a": 1, "b": 9}"#),
            (r#"{"a": 1}"#, &["b"], false, r#"{"a": 1}"#),
            (r#"{"a": {"c": [1, 2]}}"#, &["a", "c", "1"], true, r#"{"a": {"c": [1, 9]}}"#),
            (r#"{"a": {"c": [1, 2]}}"#, &["a", "c", "-1"], true, r#"{"a": {"c": [1, 9]}}"#),
            (r#"[1]"#, &["7"], true, "[1, 9]"),
            (r#"[1]"#, &["-7"], true, "[9, 1]"),
            (r#"[1]"#, &["x"], true, "[1]"),
            (r#"{"a": 1}"#, &["b", "c"], true, r#"{"a": 1}"#),
            ("5", &["a"], true, "5"),
            ("[1]", &[], true, "[1]"),
        ] {
            assert_eq!(set(read(text), path, &read("9"), may_make).normal(), expected, "{text} {path:?}");
        }
    }

    #[test]
    fn members_and_elements_go() {
        assert_eq!(without(read(r#"{"a": 1, "b": 2, "a": 3}"#), "a").normal(), r#"{"b": 2}"#);
        assert_eq!(without(read(r#"["a", "b", 1, "a"]"#), "a").normal(), r#"["b", 1]"#);
    }

    #[test]
    fn values_are_written_on_lines() {
        let text = pretty(&read(r#"{"b": [1, {"c": null}], "a": {}}"#));
        assert_eq!(
            text,
            "{\n    \"a\": {\n    },\n    \"b\": [\n        1,\n        {\n            \"c\": null\n        }\n    ]\n}"
        );
    }
}
