//! Dead letters: records that cannot be decoded, written elsewhere as they were.
//!
//! Key, value and time are the record's own; its headers are kept and five are added: `rondel.error` (the reason),
//! `rondel.topic`, `rondel.partition`, `rondel.offset` and `rondel.stream`. A letter counts as skipped only when the
//! broker has it; one that cannot be written stops the job.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;

use super::batch_queue::{Record, Wake};
use super::delivery::{Delivery, Outgoing, Taken};
use super::health::Health;
use crate::error::Result;

/// Letters that one reader holds while the producer's queue is full, before it stops reading.
const WAITING: usize = 1_024;

/// Where the letters of one source go; shared by its readers.
pub(super) struct DeadLetters {
    delivery: Arc<Delivery>,
    topic: String,
    stream: String,
    tickets: Arc<Tickets>,
}

/// Letters on their way.
#[derive(Default)]
struct Tickets {
    next: AtomicUsize,
    open: Mutex<HashMap<usize, Ticket>>,
}

struct Ticket {
    reason: String,
    underway: Arc<AtomicUsize>,
}

impl Tickets {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Ticket>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeadLetters {
    /// `wakes` are those of all readers: a letter that arrives makes room for any of them.
    pub(super) fn open(
        config: &ClientConfig,
        topic: &str,
        stream: &str,
        health: &Arc<Health>,
        wakes: Vec<Arc<Wake>>,
    ) -> Result<Arc<Self>> {
        let tickets = Arc::new(Tickets::default());
        let (open, source) = (Arc::clone(&tickets), Arc::clone(health));
        let delivered = Box::new(move |number: usize| {
            let Some(ticket) = open.lock().remove(&number) else { return };
            source.skipped(1, &ticket.reason);
            ticket.underway.fetch_sub(1, Ordering::SeqCst);
            wakes.iter().for_each(|wake| wake.wake());
        });
        let delivery = Delivery::open(config, topic, health.for_dead_letters(topic), delivered)?;
        Ok(Arc::new(Self { delivery, topic: topic.to_owned(), stream: stream.to_owned(), tickets }))
    }
}

/// One letter, kept until the producer takes it.
struct Letter {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp_millis: Option<i64>,
    reason: String,
}

/// One reader's letter box.
pub(super) struct LetterBox {
    letters: Arc<DeadLetters>,
    waiting: VecDeque<Letter>,
    underway: Arc<AtomicUsize>,
}

impl LetterBox {
    pub(super) fn new(letters: Arc<DeadLetters>) -> Self {
        Self { letters, waiting: VecDeque::new(), underway: Arc::default() }
    }

    /// Takes a record that cannot be decoded. `reason` says where it stood and why.
    pub(super) fn push(&mut self, record: Record<'_>, reason: String) -> Result<()> {
        let mut headers: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        record.headers(|name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        for (name, value) in [
            ("rondel.error", reason.clone()),
            ("rondel.topic", record.topic().to_owned()),
            ("rondel.partition", record.partition().to_string()),
            ("rondel.offset", record.offset().to_string()),
            ("rondel.stream", self.letters.stream.clone()),
        ] {
            headers.push((name.to_owned(), Some(value.into_bytes())));
        }
        self.waiting.push_back(Letter {
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            headers,
            timestamp_millis: record.timestamp_millis(),
            reason,
        });
        self.post()
    }

    /// Gives the producer what it takes.
    pub(super) fn post(&mut self) -> Result<()> {
        self.letters.delivery.check()?;
        while let Some(letter) = self.waiting.front() {
            let ticket = self.letters.tickets.next.fetch_add(1, Ordering::SeqCst) + 1;
            let open = Ticket { reason: letter.reason.clone(), underway: Arc::clone(&self.underway) };
            // Before sending: the delivery may be reported before `send` returns.
            self.underway.fetch_add(1, Ordering::SeqCst);
            self.letters.tickets.lock().insert(ticket, open);
            let headers: Vec<(&str, Option<&[u8]>)> =
                letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let taken = self.letters.delivery.send(Outgoing {
                topic: &self.letters.topic,
                partition: None,
                key: letter.key.as_deref(),
                value: letter.value.as_deref(),
                timestamp_millis: letter.timestamp_millis,
                headers: &headers,
                ticket,
            });
            if !matches!(taken, Ok(Taken::Yes)) {
                self.letters.tickets.lock().remove(&ticket);
                self.underway.fetch_sub(1, Ordering::SeqCst);
                return taken.map(drop);
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// No more records may be read until some letters are gone: the wake comes with a delivery.
    pub(super) fn full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    /// Every letter has arrived.
    pub(super) fn empty(&self) -> bool {
        self.waiting.is_empty() && self.underway.load(Ordering::SeqCst) == 0
    }
}
