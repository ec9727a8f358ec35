//! One producer with a transactional id.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::util::Timeout;

use super::super::delivery::{Delivery, Outgoing, WritingContext};
use super::super::health::words;
use super::closing::Closing;
use crate::connector::transaction::log::{LogRecord, Taken, TransactionalProducer, Trouble};
use crate::error::{Error, ErrorKind, Result};

/// How often one who waits for acknowledgements looks.
const LOOK: Duration = Duration::from_millis(2);

/// See the [module](self).
pub(super) struct KafkaProducer {
    delivery: Arc<Delivery>,
    /// `topic demand on 127.0.0.1:9092`.
    log: String,
    timeout: Duration,
    closing: Arc<Closing>,
    /// The transaction has records.
    written: AtomicBool,
    /// Since when.
    since: Mutex<Option<Instant>>,
}

impl KafkaProducer {
    pub(super) fn new(delivery: Arc<Delivery>, log: &str, timeout: Duration, closing: Arc<Closing>) -> Self {
        let written = AtomicBool::new(false);
        Self { delivery, log: log.to_owned(), timeout, closing, written, since: Mutex::default() }
    }

    /// Aborts what is open, as the job is dropped; nobody waits for it. What it does not reach is ended by the next run's
    /// `init`, or by the brokers after the time-out.
    pub(super) fn give_up(&self) {
        if !self.written.load(Ordering::SeqCst) {
            return;
        }
        let delivery = Arc::clone(&self.delivery);
        let abort = move || match delivery.producer().abort_transaction(Timeout::Never) {
            Ok(()) => {}
            Err(error) => tracing::debug!("a transaction was left to the brokers: {error}"),
        };
        if let Err(error) = thread::Builder::new().name("kafka-abort".to_owned()).spawn(abort) {
            tracing::info!("a transaction was left to the brokers: {error}");
        }
    }

    /// A call about transactions, on a thread of its own.
    fn call(
        &self,
        call: impl FnOnce(&BaseProducer<WritingContext>) -> KafkaResult<()> + Send + 'static,
    ) -> Result<(), Trouble> {
        let delivery = Arc::clone(&self.delivery);
        let outcome = self.closing.run(move || call(delivery.producer()));
        outcome.map_err(Trouble::Canceled)?.map_err(|error| self.trouble(&error))
    }

    fn begun(&self) {
        self.written.store(false, Ordering::SeqCst);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn first_record(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.written.store(true, Ordering::SeqCst);
    }

    /// What an error of a call about transactions means.
    fn trouble(&self, error: &KafkaError) -> Trouble {
        use RDKafkaErrorCode as C;
        let KafkaError::Transaction(error) = error else {
            return Trouble::Broken(Error::new(ErrorKind::External, format!("{}: {error}", self.log)));
        };
        let said = error.string();
        match error.code() {
            C::InvalidTransactionTimeout => Trouble::Final(
                Error::invalid(format!(
                    "the brokers of {} keep no transaction open for {} s, as the option \"transaction_timeout\" asks",
                    self.log,
                    self.timeout.as_secs()
                ))
                .with_hint("Write a shorter one, or raise the brokers' transaction.max.timeout.ms."),
            ),
            code @ (C::TransactionalIdAuthorizationFailed | C::ClusterAuthorizationFailed) => Trouble::Final(
                Error::new(
                    ErrorKind::External,
                    format!("the brokers of {} allow this login no transactions: {}", self.log, words(code)),
                )
                .with_hint(
                    "Allow it Write and Describe on transactional ids that begin with \"rondel-\", or write delivery = \
                     'at_least_once'.",
                ),
            ),
            code if is_fenced(code) => Trouble::Final(self.fenced()),
            _ if error.is_fatal() => match self.delivery.producer().client().fatal_error() {
                Some((code, _)) if is_fenced(code) => Trouble::Final(self.fenced()),
                _ => Trouble::Broken(Error::new(ErrorKind::External, format!("{}: {said}", self.log))),
            },
            _ if error.txn_requires_abort() => Trouble::Abort(match self.delivery.check() {
                Err(error) => self.explained(error),
                Ok(()) => Error::new(ErrorKind::External, format!("a transaction into {} failed: {said}", self.log)),
            }),
            _ if error.is_retriable() => Trouble::Unknown(said),
            _ => Trouble::Broken(Error::new(ErrorKind::External, format!("{}: {said}", self.log))),
        }
    }

    /// An error of a record, or the reason behind it.
    fn explained(&self, error: Error) -> Error {
        match self.delivery.producer().client().fatal_error() {
            Some((code, _)) if is_fenced(code) => self.fenced(),
            _ => error,
        }
    }

    fn fenced(&self) -> Error {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let open = since.map(|since| since.elapsed()).unwrap_or_default();
        if open >= self.timeout {
            return Error::new(
                ErrorKind::External,
                format!("the brokers ended a transaction into {} that was open for {} s", self.log, open.as_secs()),
            )
            .with_hint("Take checkpoints more often, or raise the option \"transaction_timeout\".");
        }
        Error::new(ErrorKind::InvalidState, format!("another run of this job has taken over writing to {}", self.log))
            .with_hint("A job runs in one server only: stop this one or the other.")
    }
}

fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(code, C::Fenced | C::InvalidProducerEpoch | C::ProducerFenced)
}

impl TransactionalProducer for KafkaProducer {
    fn init(&self) -> Result<(), Trouble> {
        self.call(|producer| producer.init_transactions(Timeout::Never))
    }

    fn begin(&self) -> Result<(), Trouble> {
        self.delivery.producer().begin_transaction().map_err(|error| self.trouble(&error))?;
        self.begun();
        Ok(())
    }

    fn send(&self, record: LogRecord<'_>) -> Result<Taken> {
        let LogRecord { topic, partition, key, value } = record;
        let outgoing = Outgoing { topic, partition, key, value, timestamp_millis: None, headers: &[], ticket: 0 };
        let taken = self.delivery.send(outgoing).map_err(|error| self.explained(error))?;
        if taken == Taken::Yes && !self.written.load(Ordering::SeqCst) {
            self.first_record();
        }
        Ok(taken)
    }

    fn acknowledged(&self) -> Result<bool> {
        self.delivery.delivered().map_err(|error| self.explained(error))
    }

    fn flush(&self) -> Result<()> {
        while !self.acknowledged()? {
            self.closing.wait(LOOK)?;
        }
        Ok(())
    }

    fn commit(&self) -> Result<(), Trouble> {
        self.call(|producer| producer.commit_transaction(Timeout::Never))
    }

    fn abort(&self) -> Result<(), Trouble> {
        self.call(|producer| producer.abort_transaction(Timeout::Never))
    }
}
