//! A field of a message, or an extension of it that the descriptor knows: the same thing on the wire.

use prost_reflect::{
    Cardinality, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, Value,
};
use prost_types::FieldDescriptorProto;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MessageField {
    /// Declared inside of the message.
    Own(FieldDescriptor),
    /// Declared elsewhere; its name is its full name (`acme.priority`).
    Extension(ExtensionDescriptor),
}

/// Asks whichever it is.
macro_rules! either {
    ($field:expr, $inner:ident => $answer:expr) => {
        match $field {
            MessageField::Own($inner) => $answer,
            MessageField::Extension($inner) => $answer,
        }
    };
}

impl MessageField {
    /// The column's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Own(field) => field.name(),
            Self::Extension(extension) => extension.full_name(),
        }
    }

    pub(crate) fn full_name(&self) -> &str {
        either!(self, field => field.full_name())
    }

    pub(crate) fn number(&self) -> u32 {
        either!(self, field => field.number())
    }

    pub(crate) fn kind(&self) -> Kind {
        either!(self, field => field.kind())
    }

    pub(crate) fn is_list(&self) -> bool {
        either!(self, field => field.is_list())
    }

    pub(crate) fn is_map(&self) -> bool {
        either!(self, field => field.is_map())
    }

    pub(crate) fn is_group(&self) -> bool {
        either!(self, field => field.is_group())
    }

    pub(crate) fn is_packed(&self) -> bool {
        either!(self, field => field.is_packed())
    }

    pub(crate) fn is_required(&self) -> bool {
        either!(self, field => field.cardinality()) == Cardinality::Required
    }

    pub(crate) fn supports_presence(&self) -> bool {
        either!(self, field => field.supports_presence())
    }

    pub(crate) fn default_value(&self) -> Value {
        either!(self, field => field.default_value())
    }

    pub(crate) fn proto(&self) -> &FieldDescriptorProto {
        either!(self, field => field.field_descriptor_proto())
    }

    /// The `oneof` that the user wrote it into (proto3's `optional` is one under the hood).
    pub(crate) fn oneof(&self) -> Option<OneofDescriptor> {
        match self {
            Self::Own(field) => field.containing_oneof().filter(|oneof| !oneof.is_synthetic()),
            Self::Extension(_) => None,
        }
    }
}

/// A message's fields in the order in which its definition lists them, then its extensions by number.
pub(crate) fn fields_of(message: &MessageDescriptor) -> Vec<MessageField> {
    let declared = message.descriptor_proto().field.iter();
    let own = declared.filter_map(|field| message.get_field(field.number() as u32)).map(MessageField::Own);
    let mut extensions: Vec<ExtensionDescriptor> = message.extensions().collect();
    // Of Google's own options the pool may know many extensions, and of a message set the wire form is another.
    if message.full_name().starts_with("google.protobuf.") || is_message_set(message) {
        extensions.clear();
    }
    extensions.sort_by_key(ExtensionDescriptor::number);
    own.chain(extensions.into_iter().map(MessageField::Extension)).collect()
}

fn is_message_set(message: &MessageDescriptor) -> bool {
    message.descriptor_proto().options.as_ref().is_some_and(|options| options.message_set_wire_format())
}
