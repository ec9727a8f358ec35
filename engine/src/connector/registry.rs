//! The one list of connectors, and what each can define: streams, sinks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::blackhole;
use super::definition::{Definition, SinkDefinition, StreamDefinition};
use super::file::{definition as file, stream as files};
use super::kafka::definition as kafka;
use super::nexmark::definition as nexmark;
use super::options::OptionTable;
use crate::error::{Error, Result};
use crate::format::value::{FORMAT, READING, REGISTRY, WRITING};
use crate::schema::nearest;

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
        name: "file",
        doc: "Files in a folder of the server's machine.",
        stream: Some((files::define_stream, &[&super::file::settings::SOURCE])),
        sink: Some((file::define_sink, &[&super::file::settings::SINK])),
    },
    Connector {
        name: "kafka",
        doc: "Apache Kafka, and everything that speaks its protocol.",
        stream: Some((kafka::define_stream, &[&super::kafka::settings::SOURCE, &FORMAT, &REGISTRY, &READING])),
        sink: Some((kafka::define_sink, &[&super::kafka::settings::SINK, &FORMAT, &REGISTRY, &WRITING])),
    },
    Connector {
        name: "nexmark",
        doc: "The events of the Nexmark benchmark, made from a seed.",
        stream: Some((nexmark::define_stream, &[&nexmark::OPTIONS])),
        sink: None,
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

/// Connectors whose formats read the columns that a statement declares; those of the others are their own.
const DECLARED_COLUMNS: &[&str] = &["file", "kafka"];

fn check_columns(connector: &Connector, definition: &Definition<'_>) -> Result<()> {
    let Some(column) = definition.columns.and_then(|columns| columns.fields().first()) else { return Ok(()) };
    if DECLARED_COLUMNS.contains(&connector.name) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the columns of the connector '{}' are its own or its query's, and '{}' is declared beside them",
        connector.name,
        column.name()
    ))
    .with_hint("leave the columns out"))
}

/// Checks what `CREATE STREAM` says.
pub fn define_stream(definition: &Definition<'_>) -> Result<Arc<dyn StreamDefinition>> {
    let (connector, options) = connector(definition.options)?;
    let Some((define, _)) = connector.stream else {
        return Err(Error::invalid(format!("the connector '{}' cannot be read from", connector.name)));
    };
    check_columns(connector, definition)?;
    define(&Definition { options: &options, ..*definition })
}

/// Checks what `CREATE SINK` says.
pub fn define_sink(definition: &Definition<'_>) -> Result<Arc<dyn SinkDefinition>> {
    let (connector, options) = connector(definition.options)?;
    let Some((define, _)) = connector.sink else {
        return Err(Error::invalid(format!("the connector '{}' cannot be written to", connector.name)));
    };
    check_columns(connector, definition)?;
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
