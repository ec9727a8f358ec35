//! What becomes of rows when messages are written by another version of their definition than they are read by.
//!
//! | the new version | read by the old one |
//! |---|---|
//! | has a field more | not seen |
//! | lacks a field | it is unset; a `required` one breaks |
//! | calls a field otherwise | the same values |
//! | gives a field another number | breaks |
//! | gives a field another type | the same values where every one of the new type has its place in the old one and looks alike on the wire (`int32` written, `int64` read; `string` written, `bytes` read); breaks otherwise |
//! | makes a field a list, or a list a field | breaks |
//! | has more values of an enum | shown by their numbers |
//! | calls a value of an enum otherwise | breaks where names are shown |
//!
//! A change *breaks* when rows would be wrong without anybody noticing.

use std::collections::HashSet;

use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor};

use super::field::{MessageField, fields_of};
use super::types::TypeRules;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// The column that it concerns, by its name in the version that rows are read by; of a new field, the field's name.
    pub column: String,
    /// What changed, as a sentence without its end.
    pub what: String,
    /// Rows read by the old version would be wrong.
    pub breaks: bool,
}

/// The differences for one who reads by `reader` what is written by `writer`.
pub fn changes(reader: &MessageDescriptor, writer: &MessageDescriptor, rules: &TypeRules) -> Vec<SchemaChange> {
    let mut comparing = Comparing { rules, seen: HashSet::new(), found: Vec::new() };
    comparing.messages(reader, writer, None, "");
    comparing.found
}

struct Comparing<'a> {
    rules: &'a TypeRules,
    /// Messages that were compared, by their names: they may hold themselves.
    seen: HashSet<(String, String, String)>,
    found: Vec<SchemaChange>,
}

impl Comparing<'_> {
    fn note(&mut self, column: &str, what: String, breaks: bool) {
        self.found.push(SchemaChange { column: column.to_owned(), what, breaks });
    }

    fn messages(&mut self, reader: &MessageDescriptor, writer: &MessageDescriptor, column: Option<&str>, path: &str) {
        let place = column.unwrap_or_default().to_owned();
        if !self.seen.insert((reader.full_name().to_owned(), writer.full_name().to_owned(), place)) {
            return;
        }
        let (old, new) = (fields_of(reader), fields_of(writer));
        for field in &old {
            let column = column.unwrap_or(field.name());
            let shown = format!("{path}{}", field.name());
            match new.iter().find(|other| other.number() == field.number()) {
                Some(other) => self.fields(field, other, &new, column, &shown),
                None => self.gone(field, &new, column, &shown),
            }
        }
        for field in &new {
            let is_new = |known: &MessageField| known.number() != field.number() && known.name() != field.name();
            if old.iter().all(is_new) {
                let column = column.unwrap_or(field.name());
                self.note(column, format!("field {path}{} is new", field.name()), false);
            }
        }
    }

    /// No field has the number any more.
    fn gone(&mut self, field: &MessageField, new: &[MessageField], column: &str, shown: &str) {
        if let Some(moved) = new.iter().find(|other| other.name() == field.name()) {
            let what = format!("field {shown} has the number {}, and had {}", moved.number(), field.number());
            return self.note(column, what, true);
        }
        let required = field.is_required();
        let what = match required {
            true => format!("the required field {shown} is gone"),
            false => format!("field {shown} is gone"),
        };
        self.note(column, what, required);
    }

    fn fields(&mut self, field: &MessageField, other: &MessageField, new: &[MessageField], column: &str, shown: &str) {
        if field.name() != other.name() {
            if let Some(moved) = new.iter().find(|moved| moved.name() == field.name()) {
                let what = format!(
                    "field {shown} has the number {}, and had {}, which is {} now",
                    moved.number(),
                    field.number(),
                    other.name()
                );
                return self.note(column, what, true);
            }
            self.note(column, format!("field {shown} is called {}", other.name()), false);
        }
        if (field.is_list(), field.is_map()) != (other.is_list(), other.is_map()) {
            let word = |field: &MessageField| match (field.is_map(), field.is_list()) {
                (true, _) => "a map",
                (_, true) => "a list",
                _ => "one value",
            };
            let what = format!("field {shown} is {}, and was {}", word(other), word(field));
            return self.note(column, what, true);
        }
        match (field.kind(), other.kind()) {
            (Kind::Message(_), Kind::Message(_)) if field.is_group() != other.is_group() => {
                self.note(column, format!("field {shown} is a group in one version alone"), true);
            }
            (Kind::Message(old), Kind::Message(new)) => {
                let known = |message: &MessageDescriptor| message.full_name().starts_with("google.protobuf.");
                if (known(&old) || known(&new)) && old.full_name() != new.full_name() {
                    let what = format!("field {shown} is {}, and was {}", new.full_name(), old.full_name());
                    return self.note(column, what, true);
                }
                if !known(&old) {
                    self.messages(&old, &new, Some(column), &format!("{shown}."));
                }
            }
            (Kind::Enum(old), Kind::Enum(new)) => self.enums(&old, &new, column, shown),
            (old, new) if old == new => {}
            (old, new) => {
                let breaks = !holds(&old, &new);
                let what = format!("field {shown} is {}, and was {}", word_of(&new), word_of(&old));
                self.note(column, what, breaks);
            }
        }
    }

    fn enums(&mut self, old: &EnumDescriptor, new: &EnumDescriptor, column: &str, shown: &str) {
        for value in new.values() {
            let known: Vec<_> = old.values().filter(|known| known.number() == value.number()).collect();
            if known.is_empty() {
                let what = format!("the value {} of field {shown} is new", value.name());
                self.note(column, what, false);
            }
        }
        for value in old.values() {
            let now: Vec<_> = new.values().filter(|now| now.number() == value.number()).collect();
            // Of names for one number the first is shown.
            let shows = old.values().find(|first| first.number() == value.number());
            if shows.is_none_or(|first| first.name() != value.name()) || now.is_empty() {
                continue;
            }
            if now.iter().all(|now| now.name() != value.name()) {
                let what = format!(
                    "the value {} of field {shown} is called {}, and was {}",
                    value.number(),
                    now[0].name(),
                    value.name()
                );
                self.note(column, what, !self.rules.enum_numbers);
            }
        }
    }
}

/// Whether a field of type `old` shows every value that is written as `new`.
fn holds(old: &Kind, new: &Kind) -> bool {
    matches!(
        (old, new),
        (Kind::Int64, Kind::Int32 | Kind::Uint32 | Kind::Bool | Kind::Enum(_))
            | (Kind::Int32, Kind::Bool | Kind::Enum(_))
            | (Kind::Uint64, Kind::Uint32 | Kind::Bool)
            | (Kind::Uint32, Kind::Bool)
            | (Kind::Sint64, Kind::Sint32)
            | (Kind::Bytes, Kind::String)
    )
}

fn word_of(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::schema::sources::compile_texts;

    fn message(body: &str) -> MessageDescriptor {
        let text = format!(
            "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; {body}
             message Keep {{ google.protobuf.Timestamp t = 1; }}"
        );
        let pool = compile_texts(BTreeMap::from([("a.proto".to_owned(), text)])).unwrap();
        pool.get_message_by_name("A").unwrap()
    }

    fn compared(old: &str, new: &str) -> Vec<(String, bool)> {
        let found = changes(&message(old), &message(new), &TypeRules::default());
        found.into_iter().map(|change| (format!("{}: {}", change.column, change.what), change.breaks)).collect()
    }

    fn one(old: &str, new: &str) -> (String, bool) {
        let (old, new) = (format!("message A {{ {old} }}"), format!("message A {{ {new} }}"));
        let mut found = compared(&old, &new);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn each_change_of_a_field_has_its_outcome() {
        for (old, new, words, breaks) in [
            ("int32 x = 1;", "int32 x = 1; string y = 2;", "y: field y is new", false),
            ("int32 x = 1; string y = 2;", "int32 x = 1;", "y: field y is gone", false),
            ("int32 x = 1;", "int32 z = 1;", "x: field x is called z", false),
            ("int32 x = 1;", "int32 x = 3;", "x: field x has the number 3, and had 1", true),
            ("int64 x = 1;", "int32 x = 1;", "x: field x is int32, and was int64", false),
            ("int32 x = 1;", "int64 x = 1;", "x: field x is int64, and was int32", true),
            ("int64 x = 1;", "sint64 x = 1;", "x: field x is sint64, and was int64", true),
            ("string x = 1;", "bytes x = 1;", "x: field x is bytes, and was string", true),
            ("bytes x = 1;", "string x = 1;", "x: field x is string, and was bytes", false),
            ("int32 x = 1;", "repeated int32 x = 1;", "x: field x is a list, and was one value", true),
            (
                "int64 x = 1;",
                "google.protobuf.Timestamp x = 1;",
                "x: field x is google.protobuf.Timestamp, and was int64",
                true,
            ),
        ] {
            assert_eq!(one(old, new), (words.to_owned(), breaks));
        }
        assert!(compared("message A { int32 x = 1; }", "message A { int32 x = 1; }").is_empty());
    }

    #[test]
    fn numbers_that_change_places_are_said_so() {
        let found = compared("message A { int32 x = 1; int32 y = 2; }", "message A { int32 y = 1; int32 x = 2; }");
        assert_eq!(found[0], ("x: field x has the number 2, and had 1, which is y now".to_owned(), true));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_inside_concerns_the_column_around_it() {
        let old = "message A { B b = 1; A a = 2; } message B { int32 x = 1; }";
        let new = "message A { B b = 1; A a = 2; } message B { string x = 1; }";
        let found = compared(old, new);
        assert!(found.contains(&("b: field b.x is string, and was int32".to_owned(), true)), "{found:?}");
        assert!(found.iter().any(|(words, _)| words.starts_with("a: field a.b.x")), "{found:?}");
    }

    #[test]
    fn enums_may_grow() {
        let values = |values: &str| format!("message A {{ E e = 1; }} enum E {{ {values} }}");
        let grown = compared(&values("U = 0; V = 1;"), &values("U = 0; V = 1; W = 2;"));
        assert_eq!(grown, [("e: the value W of field e is new".to_owned(), false)]);
        let renamed = compared(&values("U = 0; V = 1;"), &values("U = 0; X = 1;"));
        assert_eq!(renamed, [("e: the value 1 of field e is called X, and was V".to_owned(), true)]);
        let rules = TypeRules { enum_numbers: true, ..TypeRules::default() };
        let numbers = changes(&message(&values("U = 0; V = 1;")), &message(&values("U = 0; X = 1;")), &rules);
        assert!(!numbers[0].breaks);
    }
}
