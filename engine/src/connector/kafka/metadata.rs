//! Metadata columns: what Kafka knows of a record beside its value.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, MapBuilder, MapFieldNames, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::batch_queue::Record;
use crate::error::Result;

/// A metadata column, asked for by the option `metadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetadataColumn {
    /// `_key` BYTEA: NULL where the record has none.
    Key,
    /// `_topic` TEXT.
    Topic,
    /// `_partition` INT.
    Partition,
    /// `_offset` BIGINT.
    Offset,
    /// `_timestamp` TIMESTAMP in microseconds: the producer's or the broker's, as the topic is set up; NULL in ancient
    /// records that have none.
    Timestamp,
    /// `_headers` MAP<TEXT, BYTEA>, in the record's order, names that come twice included.
    Headers,
}

impl MetadataColumn {
    const ALL: [Self; 6] = [Self::Key, Self::Topic, Self::Partition, Self::Offset, Self::Timestamp, Self::Headers];

    /// The column's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "_key",
            Self::Topic => "_topic",
            Self::Partition => "_partition",
            Self::Offset => "_offset",
            Self::Timestamp => "_timestamp",
            Self::Headers => "_headers",
        }
    }

    /// All names.
    pub(super) fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|column| column.name()).collect()
    }

    /// The column of that name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    /// The column.
    pub(super) fn field(self) -> Field {
        let (data_type, nullable) = match self {
            Self::Key => (DataType::Binary, true),
            Self::Topic => (DataType::Utf8, false),
            Self::Partition => (DataType::Int32, false),
            Self::Offset => (DataType::Int64, false),
            Self::Timestamp => (DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Self::Headers => {
                let entry = Fields::from(vec![
                    Field::new("key", DataType::Utf8, false),
                    Field::new("value", DataType::Binary, true),
                ]);
                (DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false), false)
            }
        };
        Field::new(self.name(), data_type, nullable)
    }
}

/// Gathers one metadata column of a batch.
pub(super) enum MetadataBuilder {
    Key(BinaryBuilder),
    Topic(StringBuilder),
    Partition(Int32Builder),
    Offset(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Headers(Box<MapBuilder<StringBuilder, BinaryBuilder>>),
}

impl MetadataBuilder {
    pub(super) fn new(column: MetadataColumn) -> Self {
        match column {
            MetadataColumn::Key => Self::Key(BinaryBuilder::new()),
            MetadataColumn::Topic => Self::Topic(StringBuilder::new()),
            MetadataColumn::Partition => Self::Partition(Int32Builder::new()),
            MetadataColumn::Offset => Self::Offset(Int64Builder::new()),
            MetadataColumn::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            MetadataColumn::Headers => {
                let names =
                    MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
                Self::Headers(Box::new(MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new())))
            }
        }
    }

    /// Adds the value of one record.
    pub(super) fn push(&mut self, record: Record<'_>) -> Result<()> {
        match self {
            Self::Key(builder) => builder.append_option(record.key()),
            Self::Topic(builder) => builder.append_value(record.topic()),
            Self::Partition(builder) => builder.append_value(record.partition()),
            Self::Offset(builder) => builder.append_value(record.offset()),
            Self::Timestamp(builder) => {
                builder.append_option(record.timestamp_millis().and_then(|millis| millis.checked_mul(1_000)));
            }
            Self::Headers(builder) => {
                record.headers(|name, value| {
                    builder.keys().append_value(name);
                    builder.values().append_option(value);
                });
                builder.append(true)?;
            }
        }
        Ok(())
    }

    /// The column of the batch.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Key(builder) => Arc::new(builder.finish()),
            Self::Topic(builder) => Arc::new(builder.finish()),
            Self::Partition(builder) => Arc::new(builder.finish()),
            Self::Offset(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Headers(builder) => Arc::new(builder.finish()),
        }
    }
}
