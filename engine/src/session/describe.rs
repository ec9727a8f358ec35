//! DESCRIBE, and SHOW SCHEMA VERSIONS.

use arrow::datatypes::DataType;

use super::show::{self, Column};
use crate::catalog::unknown;
use crate::engine::{Engine, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::job::Live;
use crate::sql::{Show, quoted};

/// The columns that a DESCRIBE gives.
pub(super) fn schema() -> arrow::datatypes::SchemaRef {
    show::texts(&["column", "type", "nullable", "note"])
}

/// `DESCRIBE name`: its columns.
pub(super) fn describe(engine: &Engine, name: &str) -> Result<Outcome> {
    let Some(live) = engine.live.get(name) else { return Err(unknown(name)) };
    let relation = match (&live, live.relation()) {
        (_, Some(relation)) => relation,
        (Live::Broken { error, .. }, None) => return Err(error.clone()),
        (_, None) => {
            return Err(Error::new(ErrorKind::InvalidState, format!("'{name}' has no columns that can be read"))
                .with_hint("DESCRIBE takes a stream, a table or a view"));
        }
    };
    let visible = relation.visible_schema()?;
    let watermark = relation.watermark.as_ref();
    let key: Vec<String> = match &live {
        Live::Stream { definition, .. } => definition.upserts().map(|upserts| upserts.key).unwrap_or_default(),
        Live::Table { relation, .. } => relation
            .keys
            .first()
            .map(|key| key.iter().map(|column| relation.schema.field(*column).name().clone()).collect())
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    let (mut names, mut types, mut nullable, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for field in visible.fields() {
        let own = relation.schema.index_of(field.name()).ok();
        let watermark = watermark.filter(|watermark| own == Some(watermark.column));
        let note = match (watermark, key.contains(field.name())) {
            (Some(watermark), _) => Some(format!("watermark {}", watermark.expression)),
            (None, true) => Some("key".to_owned()),
            (None, false) => None,
        };
        names.push(Some(field.name().clone()));
        types.push(Some(type_words(field.data_type())));
        nullable.push(Some(if field.is_nullable() { "yes" } else { "no" }.to_owned()));
        notes.push(note);
    }
    let columns = vec![Column::Text(names), Column::Text(types), Column::Text(nullable), Column::Text(notes)];
    show::rows(schema(), columns)
}

/// SQL's words for a type.
fn type_words(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "SMALLINT".to_owned(),
        DataType::Int32 | DataType::UInt16 => "INTEGER".to_owned(),
        DataType::Int64 | DataType::UInt32 => "BIGINT".to_owned(),
        DataType::UInt64 => "NUMERIC(20)".to_owned(),
        DataType::Float16 | DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE PRECISION".to_owned(),
        DataType::Decimal128(precision, 0) => format!("NUMERIC({precision})"),
        DataType::Decimal128(precision, scale) => format!("NUMERIC({precision}, {scale})"),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "TEXT".to_owned(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTEA".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".to_owned(),
        DataType::Duration(_) | DataType::Interval(_) => "INTERVAL".to_owned(),
        DataType::Dictionary(_, values) => type_words(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("{}[]", type_words(item.data_type()))
        }
        DataType::Struct(fields) => {
            let parts: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", quoted(field.name()), type_words(field.data_type())))
                .collect();
            format!("ROW({})", parts.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(parts) if parts.len() == 2 => {
                format!("MAP({}, {})", type_words(parts[0].data_type()), type_words(parts[1].data_type()))
            }
            _ => "MAP".to_owned(),
        },
        other => other.to_string(),
    }
}

/// `SHOW SCHEMA VERSIONS [FOR STREAM name]`: those that are kept, the one in use last.
pub(super) fn versions(engine: &Engine, stream: Option<&str>) -> Result<Outcome> {
    if let Some(name) = stream {
        match engine.live.get(name) {
            Some(Live::Stream { .. }) => {}
            Some(Live::Broken { error, .. }) => return Err(error),
            Some(_) => return Err(Error::new(ErrorKind::InvalidState, format!("'{name}' is not a stream"))),
            None => return Err(unknown(name)),
        }
    }
    let (mut streams, mut numbers, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let (mut states, mut jobs, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    for (name, live) in engine.live.all() {
        let Live::Stream { definition, .. } = live else { continue };
        if stream.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let Some(kept) = definition.evolving().and_then(|evolving| evolving.kept()) else { continue };
        let used = engine.versions_in_use(&name);
        for version in kept.versions() {
            let current = version.number == kept.current().number;
            streams.push(Some(name.clone()));
            numbers.push(i64::try_from(version.number).unwrap_or(i64::MAX));
            ids.push(version.id.map(|id| id.to_string()));
            states.push(Some(if current { "current" } else { "kept" }.to_owned()));
            jobs.push(used.get(&version.number).map(|jobs| jobs.join(", ")));
            origins.push(Some(version.origin.clone()));
        }
    }
    let columns = vec![
        Column::Text(streams),
        Column::Number(numbers),
        Column::Text(ids),
        Column::Text(states),
        Column::Text(jobs),
        Column::Text(origins),
    ];
    show::rows(show::schema(&Show::SchemaVersions(None)), columns)
}
