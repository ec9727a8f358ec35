//! Files of editions, said in the words of proto2 and proto3.
//!
//! A file of an edition says by *features* what older files say by their syntax: whether a field has presence, whether a
//! list is packed, whether a message is written as a group. The library that holds descriptors knows proto2 and proto3
//! alone. So each such file is *lowered*: the features of every field are resolved, from the edition's defaults through the
//! file, the message and the oneof to the field itself, and written down as that library understands them. It reads and
//! writes the same bytes then.
//!
//! | feature | lowered |
//! |---|---|
//! | `field_presence` | `EXPLICIT`: `optional`; `IMPLICIT`: a plain field of proto3; `LEGACY_REQUIRED`: `required` |
//! | `repeated_field_encoding` | the option `packed`, both ways |
//! | `message_encoding` | `DELIMITED`: a group |
//! | `enum_type` | nothing: numbers without a name are kept in any enum |
//! | `utf8_validation` | nothing: a text column holds UTF-8, so every text is checked |
//! | `json_format` | nothing |
//!
//! * `features`: where features stand in a descriptor, and how they are resolved

mod features;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use self::features::{Encoding, FieldForm, FileForm, MessageForm, Presence, Resolved, SetForm};
use crate::error::{Error, Result};

/// How the syntax of such a file is called in its descriptor.
const SYNTAX: &str = "editions";

/// The place of the edition in a file's descriptor; a lowered file says by a location there what it was.
const EDITION_PATH: [i32; 1] = [14];

/// Files that are known: the number in a descriptor, and what people write.
const EDITIONS: &[(i32, &str)] = &[(1000, "2023"), (1001, "2024")];

/// Reads an encoded `FileDescriptorSet`, its files of editions lowered. `None`: the bytes are no such set.
pub(super) fn read_set(bytes: &[u8]) -> Option<Result<FileDescriptorSet>> {
    let mut set = FileDescriptorSet::decode(bytes).ok()?;
    if set.file.iter().all(|file| file.syntax() != SYNTAX) {
        return Some(Ok(set));
    }
    let forms = SetForm::decode(bytes).ok()?;
    let mut files = set.file.iter_mut().zip(&forms.files).filter(|(file, _)| file.syntax() == SYNTAX);
    let lowered = files.try_for_each(|(file, form)| lower(file, form));
    Some(lowered.map(|()| set))
}

/// Reads one encoded file, likewise.
pub(super) fn read_file(bytes: &[u8]) -> Option<Result<FileDescriptorProto>> {
    let mut file = FileDescriptorProto::decode(bytes).ok()?;
    if file.syntax() != SYNTAX {
        return Some(Ok(file));
    }
    let form = FileForm::decode(bytes).ok()?;
    Some(lower(&mut file, &form).map(|()| file))
}

/// Whether a file was one of an edition before it was lowered.
pub(crate) fn is_lowered(file: &FileDescriptorProto) -> bool {
    let mut locations = file.source_code_info.iter().flat_map(|info| &info.location);
    file.syntax() != SYNTAX && locations.any(|location| location.path == EDITION_PATH)
}

/// Whether a text is a `.proto` file of an edition: that is its first statement.
pub(super) fn is_source(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        let behind = match (rest.strip_prefix("//"), rest.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n'),
            (None, Some(comment)) => comment.split_once("*/"),
            (None, None) => break,
        };
        rest = behind.map_or("", |(_, behind)| behind.trim_start());
    }
    rest.strip_prefix("edition").is_some_and(|rest| rest.trim_start().starts_with('='))
}

/// Why the text of a file of an edition is not compiled here.
pub(super) fn unread_source(name: &str) -> Error {
    Error::not_supported(format!(
        "{name} is a file of an edition, and .proto texts are compiled of proto2 and proto3 only"
    ))
    .with_hint("write its FileDescriptorSet with protoc --include_imports --descriptor_set_out, and name that")
}

/// One file.
fn lower(file: &mut FileDescriptorProto, form: &FileForm) -> Result<()> {
    let number = form.edition.unwrap_or_default();
    if !EDITIONS.iter().any(|(known, _)| *known == number) {
        let names: Vec<&str> = EDITIONS.iter().map(|(_, name)| *name).collect();
        return Err(Error::not_supported(format!(
            "the file {} is of an edition that is not known here (number {number})",
            file.name()
        ))
        .with_hint(format!("known are the editions {}", names.join(" and "))));
    }
    let features = Resolved::default().with(form.features());
    let mut lowering = Lowering { implicit: None };
    for (message, form) in file.message_type.iter_mut().zip(&form.messages) {
        lowering.message(message, form, features);
    }
    for (extension, form) in file.extension.iter_mut().zip(&form.extensions) {
        lowering.extension(extension, form, features);
    }
    match lowering.implicit {
        // Every field has presence, as in proto2.
        None => {
            file.syntax = None;
            file.message_type.iter_mut().for_each(without_marks);
            file.extension.iter_mut().for_each(|extension| extension.proto3_optional = None);
        }
        Some(field) => {
            if let Some(values) = enums_of(file).find(|values| values.value.first().is_some_and(|v| v.number() != 0)) {
                return Err(Error::not_supported(format!(
                    "in the file {} the field {field} has implicit presence, and the first value of the enum {} is not 0",
                    file.name(),
                    values.name()
                ))
                .with_hint("give the enum a file of its own, or a first value of 0"));
            }
            file.syntax = Some("proto3".to_owned());
        }
    }
    let info = file.source_code_info.get_or_insert_default();
    if info.location.iter().all(|location| location.path != EDITION_PATH) {
        info.location.push(Location { path: EDITION_PATH.to_vec(), span: vec![0, 0, 0], ..Location::default() });
    }
    Ok(())
}

struct Lowering {
    /// A field without presence, if there is one.
    implicit: Option<String>,
}

impl Lowering {
    fn message(&mut self, message: &mut DescriptorProto, form: &MessageForm, outer: Resolved) {
        let features = outer.with(form.features());
        let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
        let entries: Vec<String> = message
            .nested_type
            .iter()
            .filter(|nested| nested.options.as_ref().is_some_and(|options| options.map_entry()))
            .map(|nested| nested.name().to_owned())
            .collect();
        for (field, own) in message.field.iter_mut().zip(&form.fields) {
            let oneof = field.oneof_index.and_then(|place| form.oneofs.get(usize::try_from(place).ok()?));
            let mut features = features.with(oneof.and_then(|oneof| oneof.features())).with(own.features());
            // Maps and their entries have a length whatever is said.
            let is_map = field.r#type() == Type::Message
                && entries.iter().any(|entry| field.type_name().rsplit('.').next() == Some(entry));
            if is_map || is_entry {
                features.encoding = Encoding::LengthPrefixed;
            }
            self.field(field, features, is_entry);
        }
        for (nested, form) in message.nested_type.iter_mut().zip(&form.nested) {
            self.message(nested, form, features);
        }
        for (extension, form) in message.extension.iter_mut().zip(&form.extensions) {
            self.extension(extension, form, features);
        }
    }

    fn extension(&mut self, field: &mut FieldDescriptorProto, form: &FieldForm, outer: Resolved) {
        let mut features = outer.with(form.features());
        // An extension is there or not, whatever its file says.
        features.presence = Presence::Explicit;
        self.field(field, features, false);
    }

    fn field(&mut self, field: &mut FieldDescriptorProto, features: Resolved, is_entry: bool) {
        if field.label() == Label::Repeated {
            if is_packable(field.r#type()) {
                field.options.get_or_insert_default().packed = Some(features.packed);
            }
        } else if features.presence == Presence::Required && field.oneof_index.is_none() && !is_entry {
            field.label = Some(Label::Required.into());
            field.proto3_optional = Some(true);
        } else if field.oneof_index.is_none() && field.r#type() != Type::Message && !is_entry {
            match features.presence {
                Presence::Implicit => self.implicit = Some(field.name().to_owned()),
                Presence::Explicit | Presence::Required => field.proto3_optional = Some(true),
            }
        }
        if field.r#type() == Type::Message && features.encoding == Encoding::Delimited {
            field.set_type(Type::Group);
        }
    }
}

fn is_packable(kind: Type) -> bool {
    !matches!(kind, Type::String | Type::Bytes | Type::Message | Type::Group)
}

/// Marks of optional fields are proto3's.
fn without_marks(message: &mut DescriptorProto) {
    message.field.iter_mut().chain(&mut message.extension).for_each(|field| field.proto3_optional = None);
    message.nested_type.iter_mut().for_each(without_marks);
}

fn enums_of(file: &FileDescriptorProto) -> impl Iterator<Item = &EnumDescriptorProto> {
    fn inside(message: &DescriptorProto) -> Vec<&EnumDescriptorProto> {
        message.enum_type.iter().chain(message.nested_type.iter().flat_map(inside)).collect()
    }
    file.enum_type.iter().chain(file.message_type.iter().flat_map(inside))
}

#[cfg(test)]
mod tests;
