//! The format of a record's value, from the options of `WITH (…)`: `format`, `message`, `descriptor`.
//!
//! The one list of formats. A stream's columns come from its format; a sink's rows are checked against it at creation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::decoder::RowDecoder;
use super::encoder::RowEncoder;
use super::protobuf::{ProtobufDecoder, ProtobufEncoder};
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options};
use crate::error::{Error, Result};
use crate::schema::{Descriptors, arrow_schema};

/// The options that say how records are read and written.
pub const FORMAT: OptionTable = OptionTable {
    title: "format",
    options: &[
        OptionSpec {
            name: "format",
            kind: OptionKind::Choice(&["protobuf"]),
            default: Some("protobuf"),
            required: false,
            doc: "How a record's value is written.",
        },
        OptionSpec {
            name: "message",
            kind: OptionKind::Text,
            default: None,
            required: true,
            doc: "The full name of the protobuf message, as 'acme.Booking'.",
        },
        OptionSpec {
            name: "descriptor",
            kind: OptionKind::Text,
            default: None,
            required: true,
            doc: "Where the message is defined: 'file:PATH' of a FileDescriptorSet or of .proto files (several separated by commas), read when the object is created and kept in the catalog.",
        },
        OptionSpec {
            name: "includes",
            kind: OptionKind::List,
            default: None,
            required: false,
            doc: "Folders in which imports of .proto files are looked up, before the folders of the files themselves.",
        },
    ],
    prefixes: &[],
};

/// The format of a record's value.
#[derive(Debug, Clone)]
pub struct ValueFormat {
    descriptors: Descriptors,
    message: MessageDescriptor,
}

impl ValueFormat {
    /// Reads the options. `stored` is the descriptor that the catalog kept (an encoded `FileDescriptorSet`): then the
    /// file is not read again, since it may have changed or gone.
    pub fn new(values: &BTreeMap<String, String>, stored: Option<&[u8]>) -> Result<Self> {
        let options = Options::new(&FORMAT, values);
        options.text("format")?;
        let name = options.text("message")?.unwrap_or_default();
        let origin = options.text("descriptor")?.unwrap_or_default();
        let descriptors = match stored {
            Some(bytes) => {
                let pool = DescriptorPool::decode(bytes).map_err(|error| {
                    Error::internal(format!("the descriptor in the catalog cannot be read: {error}"))
                })?;
                Descriptors::from_pool(pool, origin)
            }
            None => {
                let includes: Vec<PathBuf> = options
                    .text("includes")?
                    .unwrap_or_default()
                    .split(',')
                    .map(str::trim)
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from)
                    .collect();
                Descriptors::load(origin, &includes)?
            }
        };
        let message = descriptors.message(name)?;
        Ok(Self { descriptors, message })
    }

    /// The columns of a stream of such records.
    pub fn schema(&self) -> Result<SchemaRef> {
        arrow_schema(&self.message)
    }

    /// What the catalog keeps.
    pub fn descriptor(&self) -> Vec<u8> {
        self.descriptors.pool().encode_to_vec()
    }

    /// A decoder of these columns (indices into [`Self::schema`]).
    pub fn decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        Ok(Box::new(ProtobufDecoder::new(&self.message, projection)?))
    }

    /// An encoder of rows with these columns; the error says which column does not fit.
    pub fn encoder(&self, schema: &Schema) -> Result<Box<dyn RowEncoder>> {
        Ok(Box::new(ProtobufEncoder::new(&self.message, schema)?))
    }

    /// Another message of the same descriptor, as the format of something else (a record's key).
    pub fn with_message(&self, name: &str) -> Result<Self> {
        Ok(Self { descriptors: self.descriptors.clone(), message: self.descriptors.message(name)? })
    }

    /// The format, for use by several readers.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}
