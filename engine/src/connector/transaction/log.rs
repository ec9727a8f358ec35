//! What the protocol asks of a log with transactions. The meanings are Kafka's.

use std::sync::Arc;

use crate::error::{Error, Result};

/// Whether a record was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is on its way.
    Yes,
    /// The queue is full: offer it again later.
    Full,
}

/// A record to write.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None` lets the key decide.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// Why a producer's call did not do what it was asked for.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody knows whether it happened: call again. What the log said.
    Unknown(String),
    /// The transaction cannot commit any more, and has to be aborted: its job goes back to its last checkpoint.
    Abort(Error),
    /// This run may not write any more, or never: a newer one has its transactional ids, or the log refuses it.
    Final(Error),
    /// This producer is of no use any more, and nobody knows what became of its call: open another and look.
    Broken(Error),
    /// The job is dropped.
    Canceled(Error),
}

impl Trouble {
    /// The error in it.
    pub fn into_error(self) -> Error {
        match self {
            Self::Unknown(words) => Error::new(crate::ErrorKind::External, words),
            Self::Abort(error) | Self::Final(error) | Self::Broken(error) | Self::Canceled(error) => error,
        }
    }
}

/// A producer with a transactional id. Calls that say so block, and end when the log is closed.
pub trait TransactionalProducer: Send + Sync {
    /// Fences older producers of the same id and ends their transactions. Blocks.
    fn init(&self) -> Result<(), Trouble>;

    /// Begins a transaction; nobody hears of it before its first record.
    fn begin(&self) -> Result<(), Trouble>;

    /// Offers a record of the transaction; never blocks.
    fn send(&self, record: LogRecord<'_>) -> Result<Taken>;

    /// Whether the log has acknowledged every record given so far. An error if one could not be written.
    fn acknowledged(&self) -> Result<bool>;

    /// Waits until every record is acknowledged. Blocks.
    fn flush(&self) -> Result<()>;

    /// Commits. Blocks.
    fn commit(&self) -> Result<(), Trouble>;

    /// Aborts. Blocks.
    fn abort(&self) -> Result<(), Trouble>;
}

/// Hears of a record's key and value.
pub type Visit<'a> = dyn FnMut(Option<&[u8]>, Option<&[u8]>) + 'a;

/// A log: one Kafka cluster, as one sink sees it.
pub trait TransactionalLog: Send + Sync {
    /// What to call it in messages: `topic demand on 127.0.0.1:9092`.
    fn name(&self) -> &str;

    /// A producer; does not block.
    fn producer(&self, transactional_id: &str) -> Result<Arc<dyn TransactionalProducer>>;

    /// The topic of progress records.
    fn progress_topic(&self) -> &str;

    /// Makes the topic of progress records if it is not there, checks that it keeps the last record of each key, and
    /// answers how many partitions it has. Blocks.
    fn open_progress(&self) -> Result<i32>;

    /// The offset behind the last record of a progress partition, committed or not. Blocks.
    fn end_of_progress(&self, partition: i32) -> Result<i64>;

    /// Reads a progress partition from its beginning, committed records only, until its reader has passed `end`, however
    /// long other transactions hold it: `visit` hears of each record's key and value. Blocks.
    fn read_progress(&self, partition: i32, end: i64, visit: &mut Visit<'_>) -> Result<()>;

    /// Tells the job what it waits for.
    fn waits_for(&self, what: Option<String>);

    /// Waits a little before a call is made again; an error when the log is closed.
    fn rest(&self) -> Result<()>;

    /// Ends all calls that wait.
    fn close(&self);
}
