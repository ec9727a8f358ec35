//! Features: where they stand in a descriptor, and how what is said inside goes before what is said around it.
//!
//! The library's own types of descriptors leave features out, so a descriptor is read a second time by these forms, which
//! have nothing else.

use prost::Message;

/// A `FileDescriptorSet`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SetForm {
    #[prost(message, repeated, tag = "1")]
    pub(super) files: Vec<FileForm>,
}

/// A `FileDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FileForm {
    #[prost(message, repeated, tag = "4")]
    pub(super) messages: Vec<MessageForm>,
    #[prost(message, repeated, tag = "7")]
    pub(super) extensions: Vec<FieldForm>,
    #[prost(message, optional, tag = "8")]
    options: Option<FileOptionsForm>,
    #[prost(int32, optional, tag = "14")]
    pub(super) edition: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct FileOptionsForm {
    #[prost(message, optional, tag = "50")]
    features: Option<FeatureSet>,
}

/// A `DescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MessageForm {
    #[prost(message, repeated, tag = "2")]
    pub(super) fields: Vec<FieldForm>,
    #[prost(message, repeated, tag = "3")]
    pub(super) nested: Vec<MessageForm>,
    #[prost(message, repeated, tag = "6")]
    pub(super) extensions: Vec<FieldForm>,
    #[prost(message, optional, tag = "7")]
    options: Option<MessageOptionsForm>,
    #[prost(message, repeated, tag = "8")]
    pub(super) oneofs: Vec<OneofForm>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageOptionsForm {
    #[prost(message, optional, tag = "12")]
    features: Option<FeatureSet>,
}

/// A `FieldDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldForm {
    #[prost(message, optional, tag = "8")]
    options: Option<FieldOptionsForm>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldOptionsForm {
    #[prost(message, optional, tag = "21")]
    features: Option<FeatureSet>,
}

/// A `OneofDescriptorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OneofForm {
    #[prost(message, optional, tag = "2")]
    options: Option<OneofOptionsForm>,
}

#[derive(Clone, PartialEq, Message)]
struct OneofOptionsForm {
    #[prost(message, optional, tag = "1")]
    features: Option<FeatureSet>,
}

/// What `google.protobuf.FeatureSet` says, of what matters here; its enums as their numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureSet {
    #[prost(int32, optional, tag = "1")]
    field_presence: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    repeated_field_encoding: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    message_encoding: Option<i32>,
}

/// Gives the features that a form's options say.
macro_rules! features_of {
    ($($form:ty),*) => {
        $(impl $form {
            /// What its options say.
            pub(super) fn features(&self) -> Option<&FeatureSet> {
                self.options.as_ref().and_then(|options| options.features.as_ref())
            }
        })*
    };
}

features_of!(FileForm, MessageForm, FieldForm, OneofForm);

/// Whether a field that is not set can be told from one that has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Explicit,
    Implicit,
    Required,
}

/// How a message inside of another is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    LengthPrefixed,
    Delimited,
}

/// All features that matter, at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) presence: Presence,
    pub(super) packed: bool,
    pub(super) encoding: Encoding,
}

impl Default for Resolved {
    /// Those of the editions 2023 and 2024.
    fn default() -> Self {
        Self { presence: Presence::Explicit, packed: true, encoding: Encoding::LengthPrefixed }
    }
}

impl Resolved {
    /// With what is said further inside.
    pub(super) fn with(mut self, said: Option<&FeatureSet>) -> Self {
        let Some(said) = said else { return self };
        match said.field_presence {
            Some(1) => self.presence = Presence::Explicit,
            Some(2) => self.presence = Presence::Implicit,
            Some(3) => self.presence = Presence::Required,
            _ => {}
        }
        match said.repeated_field_encoding {
            Some(1) => self.packed = true,
            Some(2) => self.packed = false,
            _ => {}
        }
        match said.message_encoding {
            Some(1) => self.encoding = Encoding::LengthPrefixed,
            Some(2) => self.encoding = Encoding::Delimited,
            _ => {}
        }
        self
    }
}
