//! The one list of connectors, and what each can define: streams, sinks.
//!
//! A *definition* is what `WITH (…)` says, checked: it knows its columns and opens a source or sink for each job.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::blackhole;
use super::kafka::definition as kafka;
use super::options::OptionTable;
use super::{ScanRequest, Sink, Source};
use crate::error::{Error, Result};
use crate::format::value::FORMAT;
use crate::schema::nearest;

/// What a statement says of a stream or sink.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// The options of `WITH (…)`, without `connector`.
    pub options: &'a BTreeMap<String, String>,
    /// The descriptor that the catalog kept, when the object is not new.
    pub descriptor: Option<&'a [u8]>,
}

/// A stream, as its connector defines it.
pub trait StreamDefinition: Send + Sync {
    /// Its columns.
    fn schema(&self) -> SchemaRef;
    /// What the catalog keeps, beside the statement.
    fn descriptor(&self) -> Option<Vec<u8>>;
    /// A source for one job or query.
    fn open(&self, scan: ScanRequest) -> Result<Box<dyn Source>>;
}

/// What is written to a sink.
#[derive(Debug, Clone)]
pub struct SinkInput {
    /// The rows.
    pub schema: SchemaRef,
    /// Whether rows may be taken back.
    pub changelog: bool,
}

/// A sink, as its connector defines it.
pub trait SinkDefinition: Send + Sync {
    /// Its columns, where the connector or format says them; `INSERT` without a list of columns goes by their order.
    fn columns(&self) -> Option<SchemaRef>;
    /// What the catalog keeps, beside the statement.
    fn descriptor(&self) -> Option<Vec<u8>>;
    /// A sink for one job. The error says which column does not fit.
    fn open(&self, input: &SinkInput) -> Result<Box<dyn Sink>>;
}

type DefineStream = fn(&Definition<'_>) -> Result<Arc<dyn StreamDefinition>>;
type DefineSink = fn(&Definition<'_>) -> Result<Arc<dyn SinkDefinition>>;

/// A connector.
#[derive(Debug, Clone, Copy)]
pub struct Connector {
    /// Its name in `connector = '…'`.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub doc: &'static str,
    /// How it defines a stream, with the tables of its options.
    pub stream: Option<(DefineStream, &'static [&'static OptionTable])>,
    /// How it defines a sink, with the tables of its options.
    pub sink: Option<(DefineSink, &'static [&'static OptionTable])>,
}

/// All connectors.
pub const CONNECTORS: &[Connector] = &[
    Connector {
        name: "blackhole",
        doc: "Takes rows and forgets them: for benchmarks.",
        stream: None,
        sink: Some((blackhole::define_sink, &[&blackhole::OPTIONS])),
    },
    Connector {
        name: "kafka",
        doc: "Apache Kafka, and everything that speaks its protocol.",
        stream: Some((kafka::define_stream, &[&super::kafka::settings::SOURCE, &FORMAT])),
        sink: Some((kafka::define_sink, &[&super::kafka::settings::SINK, &FORMAT])),
    },
];

/// Takes the connector's name out of the options.
fn connector(options: &BTreeMap<String, String>) -> Result<(&'static Connector, BTreeMap<String, String>)> {
    let mut rest = options.clone();
    let names = || CONNECTORS.iter().map(|connector| connector.name).collect::<Vec<_>>().join(", ");
    let Some(name) = rest.remove("connector") else {
        return Err(Error::invalid("the option \"connector\" is missing")
            .with_hint(format!("write WITH (connector = '…', …); connectors are {}", names())));
    };
    let Some(connector) = CONNECTORS.iter().find(|connector| connector.name.eq_ignore_ascii_case(name.trim())) else {
        let near = nearest(&name, CONNECTORS.iter().map(|connector| connector.name));
        let hint = match near.first() {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("connectors are {}", names()),
        };
        return Err(Error::invalid(format!("there is no connector '{name}'")).with_hint(hint));
    };
    Ok((connector, rest))
}

/// Checks what `CREATE STREAM` says.
pub fn define_stream(definition: &Definition<'_>) -> Result<Arc<dyn StreamDefinition>> {
    let (connector, options) = connector(definition.options)?;
    let Some((define, _)) = connector.stream else {
        return Err(Error::invalid(format!("the connector '{}' cannot be read from", connector.name)));
    };
    define(&Definition { options: &options, ..*definition })
}

/// Checks what `CREATE SINK` says.
pub fn define_sink(definition: &Definition<'_>) -> Result<Arc<dyn SinkDefinition>> {
    let (connector, options) = connector(definition.options)?;
    let Some((define, _)) = connector.sink else {
        return Err(Error::invalid(format!("the connector '{}' cannot be written to", connector.name)));
    };
    define(&Definition { options: &options, ..*definition })
}

/// The options of all connectors as Markdown, for the documentation.
pub fn markdown() -> String {
    let mut text = String::new();
    for connector in CONNECTORS {
        text.push_str(&format!("## {}\n\n{}\n\n", connector.name, connector.doc));
        let tables =
            connector.stream.iter().map(|(_, tables)| tables).chain(connector.sink.iter().map(|(_, tables)| tables));
        let mut seen: Vec<&str> = Vec::new();
        for table in tables.flat_map(|tables| tables.iter()) {
            if !seen.contains(&table.title) {
                seen.push(table.title);
                text.push_str(&table.markdown());
                text.push('\n');
            }
        }
    }
    text
}
