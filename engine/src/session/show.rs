//! SHOW: lists of what there is, as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::Variables;
use crate::catalog::ObjectKind;
use crate::checkpoint::{CheckpointView, KeptCheckpoint};
use crate::engine::{Engine, Outcome};
use crate::error::{Error, Result};
use crate::job::JobView;
use crate::sql::Show;

/// One column of a list: its name, type and values.
pub(super) enum Column {
    Text(Vec<Option<String>>),
    Number(Vec<i64>),
    Time(Vec<i64>),
}

/// Columns of text with these names.
pub(super) fn texts(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>()))
}

/// The columns that a SHOW gives.
pub(super) fn schema(what: &Show) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), false);
    Arc::new(Schema::new(match what {
        Show::Streams => vec![text("name"), text("watermark"), time("created_at")],
        Show::Views => vec![text("name"), text("kind"), text("state"), time("created_at")],
        Show::Sinks => vec![text("name"), text("state"), time("created_at")],
        Show::Tables => vec![text("name"), text("kind")],
        Show::Jobs => vec![
            number("id"),
            text("name"),
            text("kind"),
            text("state"),
            text("waits_for"),
            text("error"),
            number("rows_in"),
            number("rows_out"),
            number("late_rows"),
            number("skipped_rows"),
            number("state_bytes"),
            number("epoch"),
            time("started_at"),
        ],
        Show::Checkpoints => vec![
            text("job"),
            number("epoch"),
            time("taken_at"),
            text("state"),
            text("savepoint"),
            number("files"),
            number("rows"),
            number("bytes"),
            text("rondel"),
        ],
        Show::SchemaVersions(_) => {
            vec![text("stream"), number("version"), text("id"), text("state"), text("jobs"), text("origin")]
        }
        Show::All => vec![text("name"), text("setting"), text("description")],
        Show::Setting(name) => vec![text(name)],
    }))
}

/// SHOW STREAMS, VIEWS, SINKS, JOBS, TABLES.
pub(super) fn objects(engine: &Engine, what: &Show) -> Result<Outcome> {
    let state =
        |name: &str| engine.live.get(name).and_then(|live| live.job().map(|job| job.view().state.name().to_owned()));
    let objects = engine.catalog.objects();
    let of =
        |kinds: &[ObjectKind]| -> Vec<_> { objects.iter().filter(|object| kinds.contains(&object.kind)).collect() };
    let columns = match what {
        Show::Streams => {
            let streams = of(&[ObjectKind::Stream]);
            let watermark = |name: &str| {
                let relation = engine.live.get(name)?.relation().cloned()?;
                let watermark = relation.watermark.as_ref()?;
                Some(format!("{} AS {}", relation.schema.field(watermark.column).name(), watermark.expression))
            };
            vec![
                Column::Text(streams.iter().map(|stream| Some(stream.name.clone())).collect()),
                Column::Text(streams.iter().map(|stream| watermark(&stream.name)).collect()),
                Column::Time(streams.iter().map(|stream| stream.created_at_micros).collect()),
            ]
        }
        Show::Views => {
            let views = of(&[ObjectKind::View, ObjectKind::MaterializedView]);
            vec![
                Column::Text(views.iter().map(|view| Some(view.name.clone())).collect()),
                Column::Text(views.iter().map(|view| Some(view.kind.word().to_owned())).collect()),
                Column::Text(views.iter().map(|view| state(&view.name)).collect()),
                Column::Time(views.iter().map(|view| view.created_at_micros).collect()),
            ]
        }
        Show::Sinks => {
            let sinks = of(&[ObjectKind::Sink]);
            vec![
                Column::Text(sinks.iter().map(|sink| Some(sink.name.clone())).collect()),
                Column::Text(sinks.iter().map(|sink| state(&sink.name)).collect()),
                Column::Time(sinks.iter().map(|sink| sink.created_at_micros).collect()),
            ]
        }
        Show::Tables => {
            let tables: Vec<_> = objects.iter().filter(|object| object.kind.is_relation()).collect();
            vec![
                Column::Text(tables.iter().map(|table| Some(table.name.clone())).collect()),
                Column::Text(tables.iter().map(|table| Some(table.kind.word().to_owned())).collect()),
            ]
        }
        Show::Jobs => jobs(&engine.jobs(), &engine.checkpoint_views()),
        Show::All | Show::Setting(_) | Show::Checkpoints | Show::SchemaVersions(_) => {
            return Err(Error::internal("a setting is not an object"));
        }
    };
    rows(schema(what), columns)
}

/// SHOW CHECKPOINTS: those that are kept, oldest first, and the last failure of each job. Reads their place.
pub(super) fn checkpoints(engine: &Engine) -> Result<Outcome> {
    let kept = engine.checkpoints()?.kept()?;
    let failing: Vec<_> = engine.checkpoint_views().into_iter().filter(|view| view.error.is_some()).collect();
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (mut jobs, mut epochs, mut times, mut states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut files, mut rows_of, mut bytes, mut versions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut savepoints = Vec::new();
    for KeptCheckpoint { job, manifest, is_chosen, savepoints: names } in &kept {
        let failure = failing.iter().find(|view| *is_chosen && view.job == *job).and_then(|view| view.error.as_ref());
        savepoints.push((!names.is_empty()).then(|| names.join(", ")));
        jobs.push(Some(job.clone()));
        epochs.push(number(manifest.epoch));
        times.push(manifest.taken_at_micros);
        states.push(Some(match (is_chosen, failure) {
            (true, Some(error)) => format!("chosen; the next one failed: {}", error.message()),
            (true, None) => "chosen".to_owned(),
            (false, _) => "kept".to_owned(),
        }));
        files.push(number(manifest.files.len() as u64));
        rows_of.push(number(manifest.files.iter().map(|file| file.rows).sum()));
        bytes.push(number(manifest.files.iter().map(|file| file.bytes).sum()));
        versions.push(Some(manifest.rondel.clone()));
    }
    let columns = vec![
        Column::Text(jobs),
        Column::Number(epochs),
        Column::Time(times),
        Column::Text(states),
        Column::Text(savepoints),
        Column::Number(files),
        Column::Number(rows_of),
        Column::Number(bytes),
        Column::Text(versions),
    ];
    rows(schema(&Show::Checkpoints), columns)
}

/// What a job waits for; and that it has no checkpoint, if a last one failed: it runs on, but would go on from long ago.
fn waits_for(job: &JobView, checkpoints: &[CheckpointView]) -> Option<String> {
    let checkpoint = checkpoints.iter().find(|view| view.job == job.name);
    let missing = checkpoint.and_then(|view| {
        let since = match view.taken_at_micros {
            Some(_) => format!("no checkpoint since {} s", view.age_seconds),
            None => "no checkpoint yet".to_owned(),
        };
        Some(format!("{since}: {}", view.error.as_ref()?.message()))
    });
    let all: Vec<String> = job.waits_for.iter().cloned().chain(missing).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn jobs(jobs: &[JobView], checkpoints: &[CheckpointView]) -> Vec<Column> {
    let text = |get: &dyn Fn(&JobView) -> Option<String>| Column::Text(jobs.iter().map(get).collect());
    let number = |get: &dyn Fn(&JobView) -> u64| {
        Column::Number(jobs.iter().map(|job| i64::try_from(get(job)).unwrap_or(i64::MAX)).collect())
    };
    vec![
        number(&|job| job.id),
        text(&|job| Some(job.name.clone())),
        text(&|job| Some(job.kind.word().to_owned())),
        text(&|job| Some(job.state.name().to_owned())),
        text(&|job| waits_for(job, checkpoints)),
        text(&|job| job.error.as_ref().map(|error| error.message().to_owned())),
        number(&|job| job.rows_in),
        number(&|job| job.rows_out),
        number(&|job| job.late_rows),
        number(&|job| job.skipped_rows),
        number(&|job| job.state_bytes),
        number(&|job| job.epoch),
        Column::Time(jobs.iter().map(|job| job.started_at_micros).collect()),
    ]
}

/// SHOW name.
pub(super) fn setting(name: &str, value: &str) -> Result<Outcome> {
    rows(schema(&Show::Setting(name.to_owned())), vec![Column::Text(vec![Some(value.to_owned())])])
}

/// SHOW ALL.
pub(super) fn settings(variables: &Variables) -> Result<Outcome> {
    let all: Vec<_> = variables.all().collect();
    let columns = vec![
        Column::Text(all.iter().map(|(name, _, _)| Some((*name).to_owned())).collect()),
        Column::Text(all.iter().map(|(_, value, _)| Some((*value).to_owned())).collect()),
        Column::Text(all.iter().map(|(_, _, doc)| Some((*doc).to_owned())).collect()),
    ];
    rows(schema(&Show::All), columns)
}

/// Lines of text as rows of one column.
pub(super) fn lines(schema: SchemaRef, text: &str) -> Result<Outcome> {
    rows(schema, vec![Column::Text(text.lines().map(|line| Some(line.to_owned())).collect())])
}

pub(super) fn rows(schema: SchemaRef, columns: Vec<Column>) -> Result<Outcome> {
    let arrays: Vec<ArrayRef> = columns
        .into_iter()
        .map(|column| match column {
            Column::Text(values) => Arc::new(StringArray::from(values)) as ArrayRef,
            Column::Number(values) => Arc::new(Int64Array::from(values)),
            Column::Time(values) => Arc::new(TimestampMicrosecondArray::from(values)),
        })
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    let stream = futures::stream::iter([Ok(batch)]);
    Ok(Outcome::Rows(Box::pin(RecordBatchStreamAdapter::new(schema, stream))))
}
