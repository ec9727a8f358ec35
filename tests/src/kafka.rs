//! A real Apache Kafka on loopback, run by `tests/components/kafka/broker.sh`.
//!
//! The script stops the broker and removes its data when its standard input ends. The only writing end of that pipe is
//! here, so the broker ends with the test process, however that ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::{Result, free_port, root};

/// How often another pair of ports is tried when the broker does not start.
const START_ATTEMPTS: usize = 3;

/// How long one question to the broker may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which records a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of transactions that are committed, and those of none.
    Committed,
    /// All.
    Uncommitted,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key; empty if there is none.
    pub key: Vec<u8>,
    /// The value; empty if there is none.
    pub value: Vec<u8>,
}

/// A broker of one node; see the [module](self).
#[derive(Debug)]
pub struct KafkaBroker {
    port: u16,
    controller_port: u16,
    folder: TempDir,
    process: Mutex<Option<Process>>,
}

/// The script's process; the broker runs until `alive` is dropped.
#[derive(Debug)]
struct Process {
    script: Child,
    alive: ChildStdin,
}

/// Hears of new records of a topic.
pub struct Watch(BaseConsumer);

impl Watch {
    /// Waits for a record; `false`: there was none in time.
    pub fn next(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(Ok(_)) = self.0.poll(Duration::from_millis(100)) {
                return true;
            }
        }
        false
    }
}

impl KafkaBroker {
    /// The broker that all tests of this process share. Tests keep out of each other's way by their topics' names.
    pub fn shared() -> Result<&'static KafkaBroker> {
        static SHARED: OnceLock<std::result::Result<KafkaBroker, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start().map_err(|error| error.to_string()))
            .as_ref()
            .map_err(|text| text.clone().into())
    }

    /// A broker of one's own, for tests that stop it. It ends when it is dropped.
    pub fn start() -> Result<KafkaBroker> {
        let mut attempt = 1;
        loop {
            let broker = KafkaBroker {
                port: free_port()?,
                controller_port: free_port()?,
                folder: tempfile::Builder::new().prefix("rondel-kafka-").tempdir()?,
                process: Mutex::new(None),
            };
            match broker.resume() {
                Ok(()) => return Ok(broker),
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Starts a stopped broker again, on the same port, with what it had.
    pub fn resume(&self) -> Result<()> {
        let mut process = self.process.lock().map_err(|_| "another thread panicked while it started the broker")?;
        if process.is_some() {
            return Ok(());
        }
        let mut script = Command::new("bash")
            .arg(root().join("tests/components/kafka/broker.sh"))
            .arg("serve")
            .arg(self.folder.path())
            .args([self.port.to_string(), self.controller_port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let alive = script.stdin.take().ok_or("the broker's script has no standard input")?;
        let stdout = script.stdout.take().ok_or("the broker's script has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            drop(alive);
            let status = script.wait()?;
            return Err(format!("Kafka did not start ({status}); its last words are above").into());
        }
        *process = Some(Process { script, alive });
        Ok(())
    }

    /// Stops the broker; its topics stay. Clients find nobody at its port.
    pub fn stop(&self) -> Result<()> {
        let taken = self.process.lock().map_err(|_| "another thread panicked while it started the broker")?.take();
        if let Some(Process { mut script, mut alive }) = taken {
            alive.write_all(b"stop\n")?;
            drop(alive);
            script.wait()?;
        }
        Ok(())
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes a topic with as many partitions; an error if there is one of that name.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        for outcome in self.admin()?.create_topics([&topic], &options).await? {
            outcome.map_err(|(topic, code)| format!("topic {topic} was not created: {code}"))?;
        }
        Ok(())
    }

    /// Gives a topic more partitions.
    pub async fn add_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let change = rdkafka::admin::NewPartitions::new(topic, partitions);
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        for outcome in self.admin()?.create_partitions([&change], &options).await? {
            outcome.map_err(|(topic, code)| format!("topic {topic} was not changed: {code}"))?;
        }
        Ok(())
    }

    /// Writes records to a topic's partition, and waits until the broker has them.
    pub fn produce(&self, topic: &str, partition: i32, values: &[Vec<u8>]) -> Result<()> {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", self.bootstrap()).create()?;
        for value in values {
            let mut record: BaseRecord<'_, (), Vec<u8>> = BaseRecord::to(topic).partition(partition).payload(value);
            while let Err((error, refused)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(10));
                record = refused;
            }
        }
        producer.flush(Duration::from_secs(20))?;
        Ok(())
    }

    /// All records of a topic that a reader of this isolation can have now, by partition and offset.
    pub fn read(&self, topic: &str, isolation: Isolation) -> Result<Vec<Record>> {
        let consumer = self.consumer(isolation)?;
        let mut open: Vec<i32> = (0..self.partitions(topic)? as i32).collect();
        let mut list = TopicPartitionList::new();
        for partition in &open {
            list.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let until = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().unwrap_or_default().to_vec(),
                    value: message.payload().unwrap_or_default().to_vec(),
                }),
                // By position, not by record: the last offsets may be marks of transactions.
                Some(Err(KafkaError::PartitionEOF(ended))) => open.retain(|partition| *partition != ended),
                Some(Err(error)) => return Err(error.into()),
                None if Instant::now() > until => return Err(format!("topic {topic} was not read in time").into()),
                None => {}
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// The offset behind the last record of a partition, or behind the mark of a transaction.
    pub fn end(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.consumer(Isolation::Uncommitted)?.fetch_watermarks(topic, partition, PATIENCE)?.1)
    }

    /// Waits until a partition ends at this offset.
    pub fn until_end(&self, topic: &str, partition: i32, end: i64) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.end(topic, partition)? < end {
            if Instant::now() > until {
                return Err(format!("topic {topic} did not come to offset {end} in time").into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<usize> {
        let metadata = self.consumer(Isolation::Committed)?.fetch_metadata(Some(topic), PATIENCE)?;
        Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
    }

    /// Waits until the broker tells of so many partitions.
    pub fn until_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.partitions(topic)? != partitions {
            if Instant::now() > until {
                return Err(format!("topic {topic} did not get {partitions} partitions in time").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Hears of records of a topic as soon as the broker has them, committed or not.
    pub fn watch(&self, topic: &str) -> Result<Watch> {
        let consumer = self.consumer(Isolation::Uncommitted)?;
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic)? as i32 {
            let end = consumer.fetch_watermarks(topic, partition, PATIENCE)?.1;
            list.add_partition_offset(topic, partition, Offset::Offset(end))?;
        }
        consumer.assign(&list)?;
        Ok(Watch(consumer))
    }

    fn consumer(&self, isolation: Isolation) -> Result<BaseConsumer> {
        let level = match isolation {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        };
        Ok(ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", "rondel-tests")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", level)
            .create()?)
    }

    /// Runs a single-file Java program of `tests/components/kafka/` with the broker's own jars; answers what it printed.
    pub fn java(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let folder = root().join("tests/components/kafka");
        let output = Command::new("bash")
            .arg(folder.join("broker.sh"))
            .arg("java")
            .arg(folder.join(program))
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{program} failed ({}): {words}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", self.bootstrap()).create()?)
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        // A broker that cannot be stopped ends with this process all the same.
        let _ = self.stop();
    }
}
