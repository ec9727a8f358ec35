//! The coordinator of a source: a thread that finds partitions, resolves where to start, deals them to the workers, and
//! says what the source waits for. Everything that blocks on a broker happens here, never on a worker's thread.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::batch_queue::{OFFSET_BEGINNING, TopicHandle, Watched, WorkerQueue};
use super::health::{Health, ReadingContext, words};
use super::settings::{KafkaSourceOptions, config_error};
use super::topics::{Start, Topics};
use crate::connector::partitions::{Partition, Partitions, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Clock;

/// How long one question to a broker may take, at first and at most. Short at first: while a question waits, nobody hears
/// that the brokers are down.
const ASK: Duration = Duration::from_secs(1);
const ASK_MOST: Duration = Duration::from_secs(10);
/// How long to wait after a question that failed, at first and at most.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MOST: Duration = Duration::from_secs(3);
/// How often the thread looks whether partitions became idle.
const LOOK: Duration = Duration::from_secs(1);
/// How long a bounded scan waits for a broker that does not answer.
const BOUNDED_PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing was dealt.
enum Trouble {
    /// No broker answers; librdkafka's word for it.
    Unreachable(String),
    /// Something is not there.
    Missing(Missing),
    /// The job cannot go on.
    Failed(Error),
}

/// What is not there: in words that finish "waits for …" and, for who does not wait, "there is no …".
struct Missing {
    awaited: String,
    absent: String,
}

impl From<KafkaError> for Trouble {
    fn from(error: KafkaError) -> Self {
        use RDKafkaErrorCode as C;
        match error.rdkafka_error_code() {
            Some(
                code @ (C::TopicAuthorizationFailed
                | C::GroupAuthorizationFailed
                | C::ClusterAuthorizationFailed
                | C::SaslAuthenticationFailed),
            ) => Self::Failed(Error::new(ErrorKind::External, format!("the broker refuses access: {}", words(code)))),
            Some(code @ (C::UnknownTopicOrPartition | C::UnknownTopic | C::UnknownPartition)) => {
                let words = words(code);
                Self::Missing(Missing {
                    awaited: format!("a partition ({words})"),
                    absent: format!("such partition ({words})"),
                })
            }
            Some(code) => Self::Unreachable(words(code)),
            None => Self::Unreachable(error.to_string()),
        }
    }
}

pub(super) struct Coordinator {
    pub(super) client: Watched<Arc<BaseConsumer<ReadingContext>>>,
    pub(super) options: Arc<KafkaSourceOptions>,
    pub(super) bounded: bool,
    pub(super) partitions: Arc<Partitions>,
    pub(super) queues: Vec<Arc<WorkerQueue<ReadingContext>>>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) topics: HashMap<String, TopicHandle<ReadingContext>>,
    pub(super) dealt: HashSet<Place>,
    pub(super) started: Vec<Place>,
    /// How long the next question may take.
    pub(super) ask: Duration,
}

impl Coordinator {
    /// Runs until the last reader is gone.
    pub(super) fn run(mut self) {
        let this = thread::current();
        self.partitions.coordinator.set(Arc::new(move || this.unpark()));
        self.ask = ASK;
        let mut back_off = BACK_OFF;
        let mut next_discovery = Instant::now();
        let mut troubled_since = None;
        while self.partitions.wanted() {
            let known = self.partitions.version() > 0;
            if self.health.down() || (Instant::now() >= next_discovery && !(self.bounded && known)) {
                match self.discover() {
                    Ok(()) => {
                        self.health.answered();
                        self.health.waits_for(None);
                        back_off = BACK_OFF;
                        troubled_since = None;
                        next_discovery = Instant::now() + self.options.discovery_interval;
                    }
                    Err(trouble) => {
                        let since: &mut Instant = troubled_since.get_or_insert_with(Instant::now);
                        if matches!(trouble, Trouble::Unreachable(_)) {
                            self.ask = (self.ask * 2).min(ASK_MOST);
                        }
                        self.tell(trouble, since.elapsed());
                        next_discovery = Instant::now() + back_off;
                        back_off = (back_off * 2).min(BACK_OFF_MOST);
                    }
                }
            }
            self.confirm_idle();
            let rest = next_discovery.saturating_duration_since(Instant::now());
            let idle = (self.options.idle_timeout / 4).max(Duration::from_millis(10));
            let pause = if self.bounded && self.partitions.version() > 0 { LOOK } else { rest.min(LOOK).min(idle) };
            self.serve(Instant::now() + pause);
        }
        for (topic, partition) in &self.started {
            if let Some(handle) = self.topics.get(topic) {
                handle.stop(*partition);
            }
        }
    }

    /// Serves the client's callbacks, which tell of brokers that are down, and sleeps until `until` or until there is
    /// something to do.
    fn serve(&self, until: Instant) {
        loop {
            self.partitions.coordinator.arm();
            while !self.client.quiet() {
                // Nothing is subscribed through this queue, so all that comes are callbacks and errors told by them.
                drop(self.client.poll(Duration::ZERO));
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() || !self.partitions.wanted() {
                return;
            }
            thread::park_timeout(rest);
        }
    }

    fn tell(&self, trouble: Trouble, lasts: Duration) {
        // The callbacks first: they hold the reason why no broker answers.
        self.serve(Instant::now());
        let patient = !self.bounded || lasts < BOUNDED_PATIENCE;
        match trouble {
            Trouble::Unreachable(words) if patient => self.health.waits_for_brokers(&words),
            Trouble::Unreachable(words) => {
                let words = format!("broker {} does not answer: {words}", self.health.brokers());
                self.fail(Error::new(ErrorKind::External, words));
            }
            Trouble::Missing(missing) if !self.bounded => {
                self.health.answered();
                self.health.waits_for(Some(missing.awaited));
            }
            Trouble::Missing(missing) => {
                self.fail(Error::new(ErrorKind::UndefinedObject, format!("there is no {}", missing.absent)));
            }
            Trouble::Failed(error) => self.fail(error),
        }
    }

    fn fail(&self, error: Error) {
        self.health.fail(error);
        self.partitions.set_failed();
    }

    /// Deals every partition that is there and was not dealt yet. A topic that is missing does not hold up the others.
    fn discover(&mut self) -> Result<(), Trouble> {
        let (places, missing) = self.find()?;
        if self.bounded && self.partitions.version() > 0 {
            // Only asked whether the brokers are back: what a bounded scan reads was settled at its start.
            return Ok(());
        }
        let new: Vec<Place> = places.into_iter().filter(|place| !self.dealt.contains(place)).collect();
        let first = self.partitions.version() == 0;
        if !new.is_empty() || (first && missing.is_none()) {
            let starts = self.resolve(&new, first)?;
            self.deal(new, starts)?;
        }
        missing.map_or(Ok(()), |missing| Err(Trouble::Missing(missing)))
    }

    /// The partitions that are there now, and what is missing, in words.
    fn find(&self) -> Result<(BTreeSet<Place>, Option<Missing>), Trouble> {
        let mut places = BTreeSet::new();
        let mut missing = Vec::new();
        match &self.options.topics {
            Topics::Named(names) => {
                for name in names {
                    let metadata = self.client.fetch_metadata(Some(name), self.ask)?;
                    let topic = metadata.topics().iter().find(|topic| topic.name() == name);
                    let error = topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
                    if matches!(error, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) {
                        return Err(Trouble::Failed(Error::new(
                            ErrorKind::External,
                            format!("topic {name} may not be read: the broker refuses access"),
                        )));
                    }
                    let found = topic.map_or(&[][..], |topic| topic.partitions());
                    if error.is_some() || found.is_empty() {
                        missing.push(name.as_str());
                    }
                    places.extend(found.iter().map(|partition| (name.clone(), partition.id())));
                }
            }
            Topics::Matching(pattern) => {
                let metadata = self.client.fetch_metadata(None, self.ask)?;
                // Kafka's own topics begin with two underscores: a pattern such as `.*` does not mean them.
                let matching = metadata
                    .topics()
                    .iter()
                    .filter(|topic| !topic.name().starts_with("__") && pattern.is_match(topic.name()));
                for topic in matching {
                    places.extend(topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id())));
                }
            }
        }
        let missing = self.missing(&places, &missing);
        Ok((places, missing))
    }

    /// What is missing beside what was found, in words.
    fn missing(&self, places: &BTreeSet<Place>, topics: &[&str]) -> Option<Missing> {
        let brokers = self.health.brokers();
        let lost = self.partitions.missing(places, self.clock.now_micros(), self.idle_micros());
        match &self.options.topics {
            Topics::Named(_) if topics.len() == 1 => Some(Missing {
                awaited: format!("topic {}, which does not exist on {brokers}", topics[0]),
                absent: format!("topic {} on {brokers}", topics[0]),
            }),
            Topics::Named(_) if topics.len() > 1 => Some(Missing {
                awaited: format!("topics {}, which do not exist on {brokers}", topics.join(", ")),
                absent: format!("topic {} on {brokers}", topics.join(" or ")),
            }),
            Topics::Matching(_) if places.is_empty() => {
                let topics = self.options.topics.describe();
                Some(Missing {
                    awaited: format!("{topics}, of which there is none on {brokers}"),
                    absent: format!("topic on {brokers} that is one of {topics}"),
                })
            }
            _ => {
                let (topic, partition) = lost.first()?;
                let others = lost.len() - 1;
                let others = if others > 0 { format!(" and {others} more") } else { String::new() };
                let lost = format!("partition {partition} of topic {topic}{others}");
                Some(Missing {
                    awaited: format!("{lost}, read before and not there on {brokers}"),
                    absent: format!("{lost} on {brokers}"),
                })
            }
        }
    }

    /// After so long a partition at its end is idle.
    fn idle_micros(&self) -> i64 {
        i64::try_from(self.options.idle_timeout.as_micros()).unwrap_or(i64::MAX)
    }

    /// Where each partition starts and, for a bounded scan, ends.
    fn resolve(&self, new: &[Place], first: bool) -> Result<Vec<(i64, Option<i64>)>, Trouble> {
        // What appears later is read from its beginning: its first records are news, whatever `start` says.
        // A snapshot of a stream that jobs read from now on is of what the topic holds: it would always be empty.
        // And so is what appears beside the positions of an earlier run.
        let first = first && self.partitions.stood.is_empty();
        let start = match &self.options.start {
            Start::Latest if self.bounded => &Start::Earliest,
            start if first => start,
            _ => &Start::Earliest,
        };
        let named: BTreeMap<&Place, i64> = match start {
            Start::Earliest | Start::Latest | Start::Offsets(_) => BTreeMap::new(),
            Start::Timestamp(millis) => self.look_up(new, |list| {
                list.set_all_offsets(Offset::Offset(*millis))?;
                self.client.offsets_for_times(list.clone(), self.ask)
            })?,
            Start::Committed => {
                let group = self.options.group.as_deref().unwrap_or_default();
                let config = self.options.group_config(group);
                let asker: BaseConsumer = config.create().map_err(|error| Trouble::Failed(config_error(&error)))?;
                self.look_up(new, |list| asker.committed_offsets(list.clone(), self.ask))?
            }
        };
        let mut starts = Vec::with_capacity(new.len());
        for place in new {
            if let Some(stood) = self.partitions.stood.get(place) {
                starts.push((self.resume(place, stood.offset)?, None));
                continue;
            }
            let at = match start {
                Start::Earliest => None,
                Start::Offsets(offsets) => offsets.get(&place.1).copied(),
                Start::Committed => named.get(place).copied(),
                Start::Latest => Some(self.ends(place)?.1),
                // No record is as young as that: whatever follows the last one will be.
                Start::Timestamp(_) => match named.get(place) {
                    Some(offset) => Some(*offset),
                    None => Some(self.ends(place)?.1),
                },
            };
            if !self.bounded {
                starts.push((at.unwrap_or(OFFSET_BEGINNING), None));
                continue;
            }
            let (low, high) = self.ends(place)?;
            starts.push((at.unwrap_or(low).max(low), Some(high)));
        }
        Ok(starts)
    }

    /// Where to go on after `offset`, if the broker still has what comes there.
    fn resume(&self, place: &Place, offset: i64) -> Result<i64, Trouble> {
        if offset == OFFSET_BEGINNING {
            return Ok(offset);
        }
        let (topic, partition) = place;
        let (low, high) = self.ends(place)?;
        if (low..=high).contains(&offset) {
            return Ok(offset);
        }
        let wanted = format!("topic {topic}, partition {partition}: the job goes on at offset {offset}");
        if offset < low && self.options.resets_to_earliest() {
            self.health.skipped(u64::try_from(low - offset).unwrap_or(0), &format!("{wanted}, which is gone"));
            return Ok(low);
        }
        let (why, hint) = if offset < low {
            let why =
                format!("{wanted}, and the earliest one there is {low}: the topic's retention has removed the rest");
            (
                why,
                "drop and create the job to begin anew, or say \"kafka.auto.offset.reset\" = 'earliest' to go on with a gap",
            )
        } else {
            let why = format!("{wanted}, and the topic ends at {high}: it was deleted and made anew");
            (why, "drop and create the job to begin anew")
        };
        Err(Trouble::Failed(Error::new(ErrorKind::InvalidState, why).with_hint(hint)))
    }

    fn ends(&self, place: &Place) -> Result<(i64, i64), Trouble> {
        Ok(self.client.fetch_watermarks(&place.0, place.1, self.ask)?)
    }

    /// Asks for offsets of all places in one call; those without one are left out.
    fn look_up<'a>(
        &self,
        places: &'a [Place],
        ask: impl FnOnce(&mut TopicPartitionList) -> Result<TopicPartitionList, KafkaError>,
    ) -> Result<BTreeMap<&'a Place, i64>, Trouble> {
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            list.add_partition(topic, *partition);
        }
        let answer = ask(&mut list)?;
        let mut offsets = BTreeMap::new();
        for place in places {
            let Some(found) = answer.find_partition(&place.0, place.1) else { continue };
            found.error()?;
            if let Offset::Offset(offset) = found.offset() {
                offsets.insert(place, offset);
            }
        }
        Ok(offsets)
    }

    /// Hands new partitions to the readers and starts them, in this order: a record must meet a reader that knows its
    /// partition.
    fn deal(&mut self, new: Vec<Place>, starts: Vec<(i64, Option<i64>)>) -> Result<(), Trouble> {
        let mut dealt: Vec<(Arc<Partition>, i64)> = Vec::with_capacity(new.len());
        for (place, (start, end)) in new.into_iter().zip(starts) {
            let number = self.partitions.number(&place);
            let (topic, partition) = place;
            let partition = Partition::new(number, topic.into(), partition, end.map(|end| end.max(start)));
            partition.passed(start);
            dealt.push((Arc::new(partition), start));
        }
        for (partition, _) in &dealt {
            let topic = partition.topic.to_string();
            if !self.topics.contains_key(&topic) {
                let handle = TopicHandle::new(Arc::clone(&self.client), &topic).map_err(Trouble::Failed)?;
                self.topics.insert(topic, handle);
            }
        }
        // A bounded partition with nothing in it is done before it begins.
        for (partition, start) in &dealt {
            if partition.end.is_some_and(|end| end <= *start) {
                partition.finish();
            }
        }
        self.partitions.deal(dealt.iter().map(|(partition, _)| Arc::clone(partition)).collect());
        for (partition, start) in dealt {
            self.dealt.insert((partition.topic.to_string(), partition.partition));
            if partition.finished() {
                continue;
            }
            let queue = &self.queues[self.partitions.worker_of(partition.number)];
            if let Some(handle) = self.topics.get(&*partition.topic) {
                handle.start(partition.partition, start, queue).map_err(Trouble::Failed)?;
                self.started.push((partition.topic.to_string(), partition.partition));
            }
        }
        Ok(())
    }

    /// Asks the broker about partitions that have stood at their end for the idle time-out. A broker that does not
    /// answer makes nothing idle: a slow partition is not an idle one.
    fn confirm_idle(&self) {
        if self.bounded || self.health.down() {
            return;
        }
        for partition in self.partitions.all() {
            let Some(offset) = partition.to_confirm(self.clock.now_micros(), self.idle_micros()) else { continue };
            let place = (partition.topic.to_string(), partition.partition);
            match self.ends(&place) {
                Ok((_, high)) if high <= offset => {
                    partition.confirm(offset);
                    self.partitions.wake(partition.number);
                }
                // More is there, or more was: the reader will see it.
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}
