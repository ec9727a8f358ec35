//! The sink, as a job opens it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::committer::FileCommitter;
use super::encode::{check, file_schema};
use super::interval::Shared;
use super::pending::Folder;
use super::settings::FileSinkOptions;
use super::writing::FileWriter;
use crate::connector::two_phase::{ExactlyOnce, Writer};
use crate::connector::{Reporter, Sink, SinkWriter};
use crate::error::{Error, Result};

/// A file sink, ready to be opened by a job.
pub(super) struct FileSink {
    name: String,
    options: FileSinkOptions,
    schema: SchemaRef,
}

impl FileSink {
    /// A sink for a result with these columns, which is a changelog or append-only.
    pub(super) fn new(name: &str, options: FileSinkOptions, schema: &SchemaRef, changelog: bool) -> Result<Self> {
        if changelog && !options.weights {
            return Err(Error::invalid(format!(
                "the rows of sink {name} are corrected as input comes, and its option \"changelog\" is 'append'"
            ))
            .with_hint(
                "Write changelog = 'weights' for a column _weight (+n for rows that come, -n for rows that go), or make the \
                 result final with EMIT AFTER WATERMARK.",
            ));
        }
        let weight = super::encode::WEIGHT;
        if options.weights && schema.field_with_name(weight).is_ok() {
            return Err(Error::invalid(format!(
                "sink {name} has a column {weight}, and changelog = 'weights' adds one of that name"
            ))
            .with_hint("Call the column something else."));
        }
        check(name, schema, options.format)?;
        Ok(Self { name: name.to_owned(), schema: file_schema(schema, options.weights), options })
    }

    fn open(self, owner: &str, run: &str, workers: usize, reporter: Arc<dyn Reporter>) -> Result<Arc<Shared>> {
        let folder =
            Folder::open(&self.options.path, owner).map_err(|error| error.context(format!("sink {}", self.name)))?;
        Ok(Shared::new((&self.name, run), folder, self.options, self.schema, workers, reporter))
    }
}

/// A name for one run's hidden files.
fn run() -> String {
    let run = Uuid::new_v4().simple().to_string();
    run.get(..12).unwrap_or(&run).to_owned()
}

fn writers(shared: &Arc<Shared>) -> Result<Vec<Box<dyn SinkWriter>>> {
    (0..shared.workers).map(|worker| Ok(Box::new(FileWriter::start(shared, worker)?) as Box<dyn SinkWriter>)).collect()
}

impl Sink for FileSink {
    fn is_exactly_once(&self) -> bool {
        self.options.exactly_once
    }

    fn writers(self: Box<Self>, workers: usize, reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        if self.options.exactly_once {
            return Err(Error::not_supported(format!(
                "sink {} is to write exactly once, and its job takes no checkpoints",
                self.name
            ))
            .with_hint("Write delivery = 'at_least_once'."));
        }
        let run = run();
        let shared = self.open(&run, &run, workers, reporter)?;
        writers(&shared)
    }

    fn open_exactly_once(
        self: Box<Self>,
        workers: usize,
        writer: Writer,
        reporter: Arc<dyn Reporter>,
    ) -> Result<ExactlyOnce> {
        let shared = self.open(&writer.job.to_string(), &run(), workers, reporter)?;
        let writers = writers(&shared)?;
        Ok(ExactlyOnce { writers, committer: Arc::new(FileCommitter::new(shared, writer)) })
    }
}
