//! The thin layer over librdkafka's C interface: reading a worker's queue a batch at a time.
//!
//! rust-rdkafka's own `poll` costs an event, an `Arc` and a clock reading per message, more than librdkafka itself; one
//! call of `rd_kafka_consume_batch_queue` fills an array of message pointers instead, and records are decoded straight
//! from librdkafka's memory. This is the only file of the engine with `unsafe` code; what leaves it is safe:
//!
//! * a [`WorkerQueue`], a [`Watched`] client and a [`TopicHandle`] hold the client that they belong to, so that it is
//!   destroyed last;
//! * a [`Record`] borrows its [`Batch`], and a batch destroys its messages when it is dropped.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka_sys as sys;

pub(super) use crate::connector::partitions::{OFFSET_BEGINNING, Wake};
use crate::error::{Error, ErrorKind, Result};

/// Messages that one call takes at most.
pub(super) const BATCH_ROWS: usize = 8_192;

const _: () = assert!(OFFSET_BEGINNING == sys::RD_KAFKA_OFFSET_BEGINNING as i64);

/// The queue that the partitions of one worker share.
pub(super) struct WorkerQueue<C: ConsumerContext + 'static> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    wake: Arc<Wake>,
    /// Last: the queue goes before its client.
    _client: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues are thread-safe (reference counted and locked inside), and so is the client.
unsafe impl<C: ConsumerContext + 'static> Send for WorkerQueue<C> {}
// SAFETY: as above.
unsafe impl<C: ConsumerContext + 'static> Sync for WorkerQueue<C> {}

impl<C: ConsumerContext + 'static> WorkerQueue<C> {
    /// A new, empty queue; `wake` is called when something comes into it while it is empty.
    pub(super) fn new(client: Arc<BaseConsumer<C>>, wake: Arc<Wake>) -> Result<Self> {
        // SAFETY: the client's handle is valid as long as `client` lives.
        let queue = unsafe { sys::rd_kafka_queue_new(client.client().native_ptr()) };
        let queue = NonNull::new(queue).ok_or_else(|| Error::internal("librdkafka gave no queue"))?;
        // SAFETY: the opaque pointer is the `Wake` behind our `Arc`, which `drop` keeps until the callback is removed.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(on_event), Arc::as_ptr(&wake).cast_mut().cast());
        }
        Ok(Self { queue, wake, _client: client })
    }

    /// What wakes the worker that reads this queue.
    pub(super) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }
}

impl<C: ConsumerContext + 'static> Drop for WorkerQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and destroyed once. The callback is removed under the lock that calls are made
        // under, so that none runs after this line and the `Wake` may go.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// Called by librdkafka, from its own threads and with the queue locked: only flips a flag and unparks a thread.
unsafe extern "C" fn on_event(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the pointer was made from a live `Wake` in `WorkerQueue::new`, which outlives the callback.
    let wake = unsafe { &*opaque.cast::<Wake>() };
    wake.wake();
}

/// A client whose main queue, on which librdkafka puts callbacks and delivery reports, is watched: `wake` is called when
/// something comes into it while it is empty, so that the thread that serves it can sleep.
pub(super) struct Watched<T> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    _wake: Arc<Wake>,
    /// Last: the queue goes before its client.
    client: T,
}

// SAFETY: librdkafka's queues are thread-safe; the client decides for itself.
unsafe impl<T: Send> Send for Watched<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Watched<T> {}

impl<C: ConsumerContext + 'static> Watched<Arc<BaseConsumer<C>>> {
    /// Watches a reading client.
    pub(super) fn consumer(client: Arc<BaseConsumer<C>>, wake: Arc<Wake>) -> Result<Self> {
        let handle = client.client().native_ptr();
        Self::watch(handle, client, wake)
    }
}

impl<C: ProducerContext + 'static> Watched<BaseProducer<C>> {
    /// Watches a writing client.
    pub(super) fn producer(client: BaseProducer<C>, wake: Arc<Wake>) -> Result<Self> {
        let handle = client.client().native_ptr();
        Self::watch(handle, client, wake)
    }
}

impl<T> Watched<T> {
    /// `handle` is that of `client`.
    fn watch(handle: *mut sys::rd_kafka_t, client: T, wake: Arc<Wake>) -> Result<Self> {
        // SAFETY: the handle is valid as long as `client` lives.
        let queue = unsafe { sys::rd_kafka_queue_get_main(handle) };
        let queue = NonNull::new(queue).ok_or_else(|| Error::internal("librdkafka gave no queue"))?;
        // SAFETY: the opaque pointer is the `Wake` behind our `Arc`, which `drop` keeps until the callback is removed.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(on_event), Arc::as_ptr(&wake).cast_mut().cast());
        }
        Ok(Self { queue, _wake: wake, client })
    }

    /// Whether nothing is there to serve.
    pub(super) fn quiet(&self) -> bool {
        // SAFETY: the queue is valid.
        unsafe { sys::rd_kafka_queue_length(self.queue.as_ptr()) == 0 }
    }
}

impl<T> std::ops::Deref for Watched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        // SAFETY: this reference to the queue is ours and given back once; the callback is removed first, as above.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// A topic of a client, through which its partitions are started and stopped.
pub(super) struct TopicHandle<C: ConsumerContext + 'static> {
    topic: NonNull<sys::rd_kafka_topic_t>,
    /// Last: the topic goes before its client.
    _client: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's topic handles are thread-safe, and so is the client.
unsafe impl<C: ConsumerContext + 'static> Send for TopicHandle<C> {}

impl<C: ConsumerContext + 'static> TopicHandle<C> {
    /// The topic of this name; it need not exist.
    pub(super) fn new(client: Arc<BaseConsumer<C>>, name: &str) -> Result<Self> {
        let c_name = CString::new(name).map_err(|_| Error::invalid("a topic's name holds a zero byte"))?;
        // SAFETY: the client's handle is valid, the name ends with zero; a null configuration means the client's own.
        let topic = unsafe { sys::rd_kafka_topic_new(client.client().native_ptr(), c_name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| {
            Error::new(ErrorKind::External, format!("topic {name} cannot be opened: {}", last_error()))
        })?;
        Ok(Self { topic, _client: client })
    }

    /// Starts fetching a partition into a worker's queue. Returns at once; what goes wrong comes through the queue.
    pub(super) fn start(&self, partition: i32, offset: i64, queue: &WorkerQueue<C>) -> Result<()> {
        // SAFETY: both handles are valid and belong to one client.
        let refused =
            unsafe { sys::rd_kafka_consume_start_queue(self.topic.as_ptr(), partition, offset, queue.queue.as_ptr()) };
        if refused == 0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::External, format!("partition {partition} cannot be read: {}", last_error())))
    }

    /// Stops fetching a partition; waits for librdkafka's threads, so not for a worker's thread to call.
    pub(super) fn stop(&self, partition: i32) {
        // SAFETY: the handle is valid; stopping what was not started is an error code and nothing else.
        unsafe { sys::rd_kafka_consume_stop(self.topic.as_ptr(), partition) };
    }
}

impl<C: ConsumerContext + 'static> Drop for TopicHandle<C> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and destroyed once.
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

/// What librdkafka's last call on this thread complained of.
fn last_error() -> String {
    // SAFETY: the code is librdkafka's own; its text is a constant.
    let text = unsafe { CStr::from_ptr(sys::rd_kafka_err2str(sys::rd_kafka_last_error())) };
    text.to_string_lossy().into_owned()
}

/// Reads one worker's queue; lives on that worker's thread.
pub(super) struct BatchReader<C: ConsumerContext + 'static> {
    /// The array that each call fills, reused. Between calls: what was given back.
    messages: Vec<*mut sys::rd_kafka_message_t>,
    /// Last: messages go before their queue.
    queue: Arc<WorkerQueue<C>>,
}

// SAFETY: between calls the array holds only messages that were given back, which belong to no thread; the queue is `Send`
// and `Sync`.
unsafe impl<C: ConsumerContext + 'static> Send for BatchReader<C> {}

impl<C: ConsumerContext + 'static> BatchReader<C> {
    /// A reader of `queue`. There is one for each queue.
    pub(super) fn new(queue: Arc<WorkerQueue<C>>) -> Self {
        Self { messages: Vec::with_capacity(BATCH_ROWS), queue }
    }

    /// What wakes this reader's worker.
    pub(super) fn wake(&self) -> &Arc<Wake> {
        self.queue.wake()
    }

    /// Takes what is there, at most `most` messages and [`BATCH_ROWS`], without waiting. Fewer than asked means that the
    /// queue was empty. What was given back is taken first, however much it is.
    pub(super) fn take(&mut self, most: usize) -> Batch<'_> {
        let most = most.min(BATCH_ROWS);
        if !self.messages.is_empty() {
            return Batch { kept_from: self.messages.len(), messages: &mut self.messages };
        }
        self.messages.clear();
        self.messages.reserve(most);
        // SAFETY: the array has room for `most` pointers, and librdkafka writes as many as it returns. The time-out is
        // zero, so the call does not block.
        unsafe {
            let taken =
                sys::rd_kafka_consume_batch_queue(self.queue.queue.as_ptr(), 0, self.messages.as_mut_ptr(), most);
            self.messages.set_len(usize::try_from(taken).unwrap_or(0).min(most));
        }
        Batch { kept_from: self.messages.len(), messages: &mut self.messages }
    }
}

impl<C: ConsumerContext + 'static> Drop for BatchReader<C> {
    fn drop(&mut self) {
        destroy(self.messages.drain(..));
    }
}

/// Gives messages back to librdkafka.
fn destroy(messages: impl Iterator<Item = *mut sys::rd_kafka_message_t>) {
    for message in messages {
        // SAFETY: each message is ours and destroyed once: who calls this takes it out of the array that holds it.
        unsafe { sys::rd_kafka_message_destroy(message) };
    }
}

/// Messages of one call; dropping it gives them back to librdkafka.
pub(super) struct Batch<'a> {
    messages: &'a mut Vec<*mut sys::rd_kafka_message_t>,
    /// Those from here on stay with the reader.
    kept_from: usize,
}

impl Batch<'_> {
    /// How many messages, events included.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Keeps the messages from this one on for the next call.
    pub(super) fn give_back(mut self, from: usize) {
        self.kept_from = from.min(self.messages.len());
    }

    /// The messages, in the order of the queue: within a partition that of its offsets.
    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        // SAFETY: librdkafka gave these pointers to us, none is null, and they live until the batch is dropped.
        self.messages.iter().map(|message| Record(unsafe { &**message }))
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        destroy(self.messages.drain(..self.kept_from));
    }
}

/// A record, or an event in a record's place.
#[derive(Clone, Copy)]
pub(super) struct Record<'a>(&'a sys::rd_kafka_message_t);

impl<'a> Record<'a> {
    /// The event's code; `None` for a record.
    #[inline]
    pub(super) fn event(&self) -> Option<RDKafkaErrorCode> {
        match self.0.err {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            code => Some(code.into()),
        }
    }

    /// The event in librdkafka's words.
    pub(super) fn event_text(&self) -> String {
        // SAFETY: the message is valid; the text lives as long as it does.
        let text = unsafe { sys::rd_kafka_message_errstr(self.0) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: not null, and librdkafka ends it with zero.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// Identifies the topic among those of one client.
    #[inline]
    pub(super) fn topic_id(&self) -> usize {
        self.0.rkt as usize
    }

    /// The topic's name; empty for an event without one.
    pub(super) fn topic(&self) -> &'a str {
        if self.0.rkt.is_null() {
            return "";
        }
        // SAFETY: the message holds a reference to its topic, whose name is a constant that ends with zero.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) }.to_str().unwrap_or("")
    }

    /// The partition's number in its topic.
    #[inline]
    pub(super) fn partition(&self) -> i32 {
        self.0.partition
    }

    /// The record's offset; for an end-of-partition event, the offset that the next record will have.
    #[inline]
    pub(super) fn offset(&self) -> i64 {
        self.0.offset
    }

    /// The value; `None` for a tombstone.
    #[inline]
    pub(super) fn payload(&self) -> Option<&'a [u8]> {
        bytes(self.0.payload, self.0.len)
    }

    /// The key.
    #[inline]
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        bytes(self.0.key, self.0.key_len)
    }

    /// The record's time, in milliseconds since 1970.
    pub(super) fn timestamp_millis(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid and the kind is written to our own variable.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.0, &mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(millis)
    }

    /// Calls `visit` with each header, in order.
    pub(super) fn headers(&self, mut visit: impl FnMut(&'a str, Option<&'a [u8]>)) {
        let mut headers: *mut sys::rd_kafka_headers_t = ptr::null_mut();
        // SAFETY: the message is valid; the headers stay its own and live as long. librdkafka reads them from the
        // message on the first call, which changes the message behind our shared reference: nothing else reads that part.
        let found = unsafe { sys::rd_kafka_message_headers(self.0, &mut headers) };
        if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
            return;
        }
        // SAFETY: the headers are valid as said above.
        for index in 0..unsafe { sys::rd_kafka_header_cnt(headers) } {
            let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the index is below the count; the three results are written to our own variables.
            let found = unsafe { sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
            if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return;
            }
            // SAFETY: librdkafka ends names with zero.
            let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("");
            visit(name, bytes(value, size));
        }
    }
}

/// Bytes that live as long as their message; `None` when the pointer is null.
#[inline]
fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: called with pointers and lengths that librdkafka put into one message together, and bound by the callers
    // to that message's life.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) })
}
