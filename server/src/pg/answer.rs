//! A statement that runs, in a task of its own, and the rows that it gives.
//!
//! The connection only waits on a channel, so it hears a cancel request at once even while a batch is computed. Dropping an
//! [`Answer`], or the future that waits for one, stops the statement.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use futures::stream::BoxStream;
use rondel_engine::engine::{EpochChanges, Outcome};
use rondel_engine::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::value::Column;

/// Batches that may wait for the client.
const BATCHES_AHEAD: usize = 2;

/// What a statement answers.
pub(crate) enum Answer {
    /// Rows, as long as they come.
    Rows(Rows),
    /// No rows.
    Done {
        /// The command tag.
        tag: String,
        /// Things the user should know.
        notices: Vec<String>,
    },
}

/// Rows on their way.
pub(crate) struct Rows {
    /// Their columns.
    pub(crate) schema: SchemaRef,
    /// Whether they go on until the client leaves.
    pub(crate) is_endless: bool,
    batches: mpsc::Receiver<Event>,
    /// The rows of one batch that weren't taken yet.
    current: Option<Block>,
    has_ended: bool,
    _task: AbortOnDrop,
}

/// A batch in the form in which its rows are written.
pub(crate) struct Block {
    /// Its columns.
    pub(crate) columns: Vec<Column>,
    next: usize,
    rows: usize,
}

/// What can be had without waiting.
pub(crate) enum Ready {
    /// A row of the current block.
    Row,
    /// Nothing yet.
    Nothing,
    /// There are no more rows.
    End,
}

/// What a statement's task tells. A channel that closes without `End` means that the task died.
enum Event {
    Batch(RecordBatch),
    Failed(Error),
    End,
}

enum Head {
    Rows { schema: SchemaRef, is_endless: bool },
    Done { tag: String, notices: Vec<String> },
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Answer {
    /// Runs a statement and waits until it is done, or until its rows' columns are known.
    pub(crate) async fn of(run: impl Future<Output = Result<Outcome>> + Send + 'static) -> Result<Self> {
        let (head, first) = oneshot::channel();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let task = AbortOnDrop(tokio::spawn(work(run, head, sender)).abort_handle());
        match first.await {
            Ok(Ok(Head::Rows { schema, is_endless })) => {
                Ok(Self::Rows(Rows { schema, is_endless, batches, current: None, has_ended: false, _task: task }))
            }
            Ok(Ok(Head::Done { tag, notices })) => Ok(Self::Done { tag, notices }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(lost()),
        }
    }

    /// Done, with nothing to say.
    pub(crate) fn done(tag: impl Into<String>) -> Self {
        Self::Done { tag: tag.into(), notices: Vec::new() }
    }
}

impl Rows {
    /// Looks for a row without waiting.
    pub(crate) fn poll(&mut self) -> Result<Ready> {
        loop {
            if self.current.as_ref().is_some_and(|block| block.next < block.rows) {
                return Ok(Ready::Row);
            }
            self.current = None;
            if self.has_ended {
                return Ok(Ready::End);
            }
            match self.batches.try_recv() {
                Ok(event) => self.take(event)?,
                Err(mpsc::error::TryRecvError::Empty) => return Ok(Ready::Nothing),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(lost()),
            }
        }
    }

    /// Waits until there is something to look at. Dropping the future loses nothing.
    pub(crate) async fn wait(&mut self) -> Result<()> {
        if self.has_ended || self.current.is_some() {
            return Ok(());
        }
        match self.batches.recv().await {
            Some(event) => self.take(event),
            None => Err(lost()),
        }
    }

    /// The row that [`poll`](Self::poll) found; it counts as taken.
    pub(crate) fn take_row(&mut self) -> Option<(&[Column], usize)> {
        let block = self.current.as_mut()?;
        let row = block.next;
        block.next += 1;
        Some((&block.columns, row))
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Batch(batch) => self.current = Some(Block::new(&batch)?),
            Event::Failed(error) => {
                self.has_ended = true;
                return Err(error);
            }
            Event::End => self.has_ended = true,
        }
        Ok(())
    }
}

impl Block {
    fn new(batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(array, field)| Column::new(array, field)).collect::<Result<_>>()?;
        Ok(Self { columns, next: 0, rows: batch.num_rows() })
    }
}

/// The columns of a subscription: the epoch and the weight, then the row's own.
pub(crate) fn changes_schema(rows: &Schema) -> SchemaRef {
    let mut fields = vec![
        Arc::new(Field::new("epoch", DataType::Int64, false)),
        Arc::new(Field::new("weight", DataType::Int64, false)),
    ];
    fields.extend(rows.fields().iter().cloned());
    Arc::new(Schema::new(fields))
}

async fn work(
    run: impl Future<Output = Result<Outcome>>,
    head: oneshot::Sender<Result<Head>>,
    batches: mpsc::Sender<Event>,
) {
    match run.await {
        Err(error) => {
            let _ = head.send(Err(error));
        }
        Ok(Outcome::Done { tag, notices }) => {
            let _ = head.send(Ok(Head::Done { tag, notices }));
        }
        Ok(Outcome::Rows(stream)) => {
            let _ = head.send(Ok(Head::Rows { schema: stream.schema(), is_endless: false }));
            forward_rows(stream, &batches).await;
        }
        Ok(Outcome::Changes { schema, stream, .. }) => {
            let schema = changes_schema(&schema);
            let _ = head.send(Ok(Head::Rows { schema: Arc::clone(&schema), is_endless: true }));
            forward_changes(schema, stream, &batches).await;
        }
    }
}

/// Stops when the receiver is gone.
async fn forward_rows(mut stream: SendableRecordBatchStream, batches: &mpsc::Sender<Event>) {
    while let Some(batch) = stream.next().await {
        let event = match batch {
            Ok(batch) if batch.num_rows() == 0 => continue,
            Ok(batch) => Event::Batch(batch),
            Err(error) => Event::Failed(error.into()),
        };
        let failed = matches!(event, Event::Failed(_));
        if batches.send(event).await.is_err() || failed {
            return;
        }
    }
    let _ = batches.send(Event::End).await;
}

async fn forward_changes(
    schema: SchemaRef,
    mut stream: BoxStream<'static, Result<EpochChanges>>,
    batches: &mpsc::Sender<Event>,
) {
    while let Some(changes) = stream.next().await {
        let rows = changes.and_then(|changes| with_epoch_and_weight(&schema, &changes));
        let events: Vec<Event> = match rows {
            Ok(rows) => rows.into_iter().map(Event::Batch).collect(),
            Err(error) => vec![Event::Failed(error)],
        };
        for event in events {
            let failed = matches!(event, Event::Failed(_));
            if batches.send(event).await.is_err() || failed {
                return;
            }
        }
    }
    let _ = batches.send(Event::End).await;
}

fn with_epoch_and_weight(schema: &SchemaRef, changes: &EpochChanges) -> Result<Vec<RecordBatch>> {
    let epoch = i64::try_from(changes.epoch).unwrap_or(i64::MAX);
    let deltas = changes.deltas.iter().filter(|delta| !delta.is_empty());
    deltas
        .map(|delta| {
            let rows = delta.num_rows();
            let weights = delta.weights().cloned().unwrap_or_else(|| Int64Array::from_value(1, rows));
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(epoch, rows)), Arc::new(weights)];
            columns.extend(delta.rows().columns().iter().cloned());
            Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
        })
        .collect()
}

fn lost() -> Error {
    Error::internal("the statement's task ended without an answer").with_hint("the server's log has the reason")
}
