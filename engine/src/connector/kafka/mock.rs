//! A Kafka broker inside the process: librdkafka's own mock cluster, which speaks the real protocol on loopback ports.
//!
//! For the demo and for tests. It keeps everything in memory, about the newest 5 MB and 100,000 records of a partition.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::error::{Error, ErrorKind, Result};

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// Brokers of a mock cluster; they go when it is dropped.
pub struct MockBroker {
    bootstrap: String,
    /// librdkafka's handle stays on the thread that made it; commands go there. `None` only while being dropped.
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl MockBroker {
    /// Starts `brokers` brokers on free loopback ports.
    pub fn start(brokers: i32) -> Result<Self> {
        let (commands, inbox) = sync_channel::<Command>(1);
        let (ready, started) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("mock-kafka".to_owned())
            .spawn(move || host(brokers, &ready, &inbox))
            .map_err(|error| Error::internal(format!("no thread for the mock broker: {error}")))?;
        let bootstrap = started.recv().map_err(|_| gone())?.map_err(|error| failed(&error))?;
        Ok(Self { bootstrap, commands: Some(commands), thread: Some(thread) })
    }

    /// The brokers, as the option `brokers` wants them.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let name = name.to_owned();
        self.run(move |cluster| cluster.create_topic(&name, partitions, 1))
    }

    /// Disconnects everyone and takes no new connections.
    pub fn go_down(&self) -> Result<()> {
        self.run(|cluster| cluster.broker_down(-1))
    }

    /// Takes connections again.
    pub fn come_up(&self) -> Result<()> {
        self.run(|cluster| cluster.broker_up(-1))
    }

    /// The next `times` produce requests are answered with "message too large", which no retry mends.
    pub fn refuse_writes(&self, times: usize) -> Result<()> {
        self.run(move |cluster| {
            let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; times];
            cluster.request_errors(RDKafkaApiKey::Produce, &errors);
            Ok(())
        })
    }

    fn run(&self, work: impl FnOnce(&Cluster) -> Result<(), KafkaError> + Send + 'static) -> Result<()> {
        let (done, answer) = sync_channel(1);
        let command: Command = Box::new(move |cluster| drop(done.send(work(cluster))));
        self.commands.as_ref().ok_or_else(gone)?.send(command).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?.map_err(|error| failed(&error))
    }
}

impl Drop for MockBroker {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Owns the cluster until nobody sends commands any more.
fn host(brokers: i32, ready: &SyncSender<Result<String, KafkaError>>, inbox: &Receiver<Command>) {
    match MockCluster::new(brokers) {
        Ok(cluster) => {
            let _ = ready.send(Ok(cluster.bootstrap_servers()));
            while let Ok(command) = inbox.recv() {
                command(&cluster);
            }
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

fn gone() -> Error {
    Error::internal("the mock broker's thread has ended")
}

fn failed(error: &KafkaError) -> Error {
    Error::new(ErrorKind::External, format!("the mock broker refuses: {error}"))
}
