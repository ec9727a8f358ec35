//! Subscriptions to a view: whole epochs, bounded, usable as a `Stream`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use futures::task::AtomicWaker;

use crate::delta::Delta;
use crate::engine::EpochChanges;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

use super::flow_control::{delta_bytes, lock};
use super::view::View;

/// What waits for one subscriber.
pub(crate) struct Mailbox {
    view: String,
    max_bytes: usize,
    state: Mutex<MailboxState>,
    waker: AtomicWaker,
    arrived: Condvar,
}

#[derive(Default)]
struct MailboxState {
    /// With the bytes that count for each.
    epochs: VecDeque<(EpochChanges, usize)>,
    bytes: usize,
    /// Nothing follows what waits; with the reason, if it is an error.
    ended: Option<Option<Error>>,
}

impl Mailbox {
    pub(crate) fn new(view: String, max_bytes: usize) -> Self {
        let (state, waker, arrived) = (Mutex::default(), AtomicWaker::new(), Condvar::new());
        Self { view, max_bytes, state, waker, arrived }
    }

    /// Hands over an epoch. `false`: the subscriber was too slow, and is cut off.
    pub(crate) fn deliver(&self, epoch: Epoch, deltas: &[Delta]) -> bool {
        let mut state = lock(&self.state);
        let bytes: usize = deltas.iter().map(delta_bytes).sum();
        // A single epoch may be larger than the bound: what waits besides it is bounded.
        let fits = state.bytes == 0 || state.bytes + bytes <= self.max_bytes;
        if fits {
            state.bytes += bytes;
            state.epochs.push_back((EpochChanges { epoch, deltas: deltas.to_vec() }, bytes));
        } else {
            state.epochs.clear();
            state.bytes = 0;
            state.ended = Some(Some(
                Error::new(
                    ErrorKind::ResourceExhausted,
                    format!(
                        "the subscription to {} was too slow: more than {} KiB of changes waited for it",
                        self.view,
                        self.max_bytes >> 10
                    ),
                )
                .with_hint("subscribe again, and read faster or subscribe to less"),
            ));
        }
        self.wake(state);
        fits
    }

    /// Hands over what was there at the beginning: before everything else, and not counted.
    pub(crate) fn deliver_first(&self, epoch: Epoch, deltas: Vec<Delta>) {
        let mut state = lock(&self.state);
        state.epochs.push_front((EpochChanges { epoch, deltas }, 0));
        self.wake(state);
    }

    /// Nothing will follow.
    pub(crate) fn end(&self, error: Option<Error>) {
        let mut state = lock(&self.state);
        state.ended.get_or_insert(error);
        self.wake(state);
    }

    fn wake(&self, state: std::sync::MutexGuard<'_, MailboxState>) {
        drop(state);
        self.arrived.notify_all();
        self.waker.wake();
    }
}

impl MailboxState {
    fn next(&mut self) -> Option<Option<Result<EpochChanges>>> {
        if let Some((changes, bytes)) = self.epochs.pop_front() {
            self.bytes -= bytes;
            return Some(Some(Ok(changes)));
        }
        self.ended.as_mut().map(|error| error.take().map(Err))
    }
}

/// The changes of a view, epoch by epoch. Dropping it unsubscribes at once.
pub struct Subscription {
    view: Arc<View>,
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    pub(crate) fn new(view: Arc<View>, mailbox: Arc<Mailbox>) -> Self {
        Self { view, mailbox }
    }

    /// The next epoch with changes, without a runtime: waits at most `timeout`. `None`: nothing came, or it is over.
    pub fn next_within(&mut self, timeout: Duration) -> Option<Result<EpochChanges>> {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.mailbox.state);
        loop {
            if let Some(next) = state.next() {
                return next;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.mailbox.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Stream for Subscription {
    type Item = Result<EpochChanges>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.mailbox.waker.register(context.waker());
        match lock(&self.mailbox.state).next() {
            Some(next) => Poll::Ready(next),
            None => Poll::Pending,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.view.unsubscribe(&self.mailbox);
    }
}
