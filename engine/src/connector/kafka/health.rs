//! How a client of librdkafka is doing, as its callbacks tell it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::connector::Reporter;
use crate::error::{Error, ErrorKind};

/// The state of one client's connections, told to the job's reporter when it changes.
pub(super) struct Health {
    /// The source or sink.
    who: String,
    brokers: String,
    reporter: Arc<dyn Reporter>,
    down: AtomicBool,
    /// The last thing that went wrong with a connection.
    last_words: Mutex<Option<String>>,
    /// What was told last, so that the reporter hears of changes only.
    told: Mutex<Option<String>>,
    failed: Mutex<Option<Error>>,
    /// The client is being closed: what its callbacks say no longer matters.
    closing: AtomicBool,
}

impl Health {
    pub(super) fn new(who: &str, brokers: &str, reporter: Arc<dyn Reporter>) -> Arc<Self> {
        Arc::new(Self {
            who: who.to_owned(),
            brokers: brokers.to_owned(),
            reporter,
            down: AtomicBool::new(false),
            last_words: Mutex::default(),
            told: Mutex::default(),
            failed: Mutex::default(),
            closing: AtomicBool::new(false),
        })
    }

    /// The health of the producer that writes this source's dead letters: the same job, another connection.
    pub(super) fn for_dead_letters(&self, topic: &str) -> Arc<Self> {
        Self::new(&format!("{} (dead letters to {topic})", self.who), &self.brokers, Arc::clone(&self.reporter))
    }

    /// The health of the registry that has this source's schemas: the same job, another system.
    pub(super) fn for_schemas(&self) -> Arc<Self> {
        Self::new(&format!("{} (its schemas)", self.who), &self.brokers, Arc::clone(&self.reporter))
    }

    /// Whether no broker can be reached.
    pub(super) fn down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }

    /// A broker answered.
    pub(super) fn answered(&self) {
        self.down.store(false, Ordering::SeqCst);
        *lock(&self.last_words) = None;
    }

    /// The job waits for `what`; `None`: for nothing.
    pub(super) fn waits_for(&self, what: Option<String>) {
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        let mut told = lock(&self.told);
        if *told != what {
            told.clone_from(&what);
            self.reporter.waits_for(&self.who, what);
        }
    }

    /// The job waits for the brokers; `words` say why if the connections themselves have said nothing.
    pub(super) fn waits_for_brokers(&self, words: &str) {
        let heard = lock(&self.last_words).clone();
        self.waits_for(Some(format!("broker {}: {}", self.brokers, heard.as_deref().unwrap_or(words))));
    }

    /// The job cannot go on.
    pub(super) fn fail(&self, error: Error) {
        if self.closing.load(Ordering::SeqCst) {
            return;
        }
        let mut failed = lock(&self.failed);
        if failed.is_none() {
            *failed = Some(error.clone());
            drop(failed);
            self.reporter.fail(error);
        }
    }

    /// Why the job cannot go on.
    pub(super) fn failed(&self) -> Option<Error> {
        lock(&self.failed).clone()
    }

    /// Rows that were read and left out.
    pub(super) fn skipped(&self, rows: u64, last_reason: &str) {
        self.reporter.skipped(&self.who, rows, last_reason);
    }

    /// From here on callbacks are ignored.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Brokers to begin with, as configured.
    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The source's or sink's name.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    fn heard(&self, code: Option<RDKafkaErrorCode>, words: &str) {
        match code {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                self.down.store(true, Ordering::SeqCst);
                self.waits_for_brokers(&plain(words));
            }
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => self.fail(
                Error::new(ErrorKind::External, format!("broker {} refuses the login: {}", self.brokers, plain(words)))
                    .with_hint("Check the options \"kafka.security.protocol\" and \"kafka.sasl.…\"."),
            ),
            Some(RDKafkaErrorCode::Fatal) => self.fail(Error::new(
                ErrorKind::External,
                format!("the Kafka client for {} gave up: {}", self.brokers, plain(words)),
            )),
            _ => {
                *lock(&self.last_words) = Some(plain(words));
                // The first words come after the news that all are down, or change while they are.
                if self.down() {
                    self.waits_for_brokers("");
                }
            }
        }
    }
}

/// librdkafka's words without its address prefix and its state machine's remarks:
/// `host:port/bootstrap: Connect to ipv4#… failed: Connection refused (after 0ms in state CONNECT)`.
pub(super) fn plain(words: &str) -> String {
    let words = words.split(" (after ").next().unwrap_or(words).trim();
    let words = words.rsplit_once("/bootstrap: ").map_or(words, |(_, rest)| rest);
    words.to_owned()
}

/// What a code means, in librdkafka's words without the code's name: `MessageSizeTooLarge (Broker: Message size too large)`.
pub(super) fn words(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or_else(|| text.clone(), str::to_owned)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The context of a reading client.
pub(super) struct ReadingContext(pub(super) Arc<Health>);

impl ClientContext for ReadingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(self.0.who(), level, facility, text);
    }

    fn error(&self, error: KafkaError, words: &str) {
        self.0.heard(error.rdkafka_error_code(), words);
    }
}

impl ConsumerContext for ReadingContext {}

/// Passes what a writing client's error callback says.
pub(super) fn heard(health: &Health, error: &KafkaError, words: &str) {
    health.heard(error.rdkafka_error_code(), words);
}

/// A line of librdkafka's log in ours: never above "warning", since what matters reaches the job by other ways.
pub(super) fn log_line(who: &str, level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Debug => tracing::trace!(who, facility, "{text}"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => tracing::debug!(who, facility, "{text}"),
        _ => tracing::info!(who, facility, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);
    impl Reporter for Told {
        fn waits_for(&self, who: &str, what: Option<String>) {
            lock(&self.0).push(format!("{who} waits for {}", what.unwrap_or("nothing".to_owned())));
        }
        fn fail(&self, error: Error) {
            lock(&self.0).push(error.to_string());
        }
        fn skipped(&self, _who: &str, _rows: u64, _last_reason: &str) {}
    }

    #[test]
    fn only_changes_are_told() {
        let told = Arc::new(Told::default());
        let health = Health::new("source rides", "h:1", Arc::<Told>::clone(&told));
        health.heard(
            Some(RDKafkaErrorCode::BrokerTransportFailure),
            "h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
        );
        health.heard(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        health.heard(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        health.waits_for(None);
        health.waits_for(None);
        assert_eq!(
            *lock(&told.0),
            [
                "source rides waits for broker h:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                "source rides waits for nothing"
            ]
        );
    }

    #[test]
    fn the_first_failure_stands_and_closing_silences() {
        let told = Arc::new(Told::default());
        let health = Health::new("sink out", "h:1", Arc::<Told>::clone(&told));
        health.heard(Some(RDKafkaErrorCode::Authentication), "h:1/bootstrap: wrong password");
        health.heard(Some(RDKafkaErrorCode::Fatal), "later");
        assert_eq!(health.failed().unwrap().message(), "broker h:1 refuses the login: wrong password");
        health.close();
        health.waits_for(Some("x".to_owned()));
        assert_eq!(lock(&told.0).len(), 1);
    }
}
