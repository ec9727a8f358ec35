//! Calls of librdkafka that block, for as long as it takes or until the job is dropped.
//!
//! Such a call runs on a thread of its own, without a time-out of ours: one that is cut short leaves librdkafka in a state
//! that it does not tell. Who waits for it goes away when the job is dropped; the thread goes when the call is done.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// How soon one who waits for a call sees that the job is dropped.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the job is dropped.
#[derive(Default)]
pub(super) struct Closing {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Closing {
    /// Ends all waiting, now and later.
    pub(super) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits so long; an error when the job is dropped.
    pub(super) fn wait(&self, pause: Duration) -> Result<()> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let (closed, _) =
            self.changed.wait_timeout_while(closed, pause, |closed| !*closed).unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(Error::new(ErrorKind::Canceled, "the job is dropped")) } else { Ok(()) }
    }

    /// Makes a call on a thread of its own and waits for its answer; an error when the job is dropped meanwhile.
    pub(super) fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.wait(Duration::ZERO)?;
        let (done, answer) = sync_channel(1);
        thread::Builder::new()
            .name("kafka-transaction".to_owned())
            .spawn(move || drop(done.send(call())))
            .map_err(|error| Error::internal(format!("no thread for a call to Kafka: {error}")))?;
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => self.wait(Duration::ZERO)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::internal("a thread that called Kafka has ended without an answer"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn a_call_ends_with_its_answer_or_with_the_job() {
        let closing = Arc::new(Closing::default());
        assert_eq!(closing.run(|| 7).unwrap(), 7);
        let (stuck, called) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let caller = {
            let (closing, stuck, called) = (Arc::clone(&closing), Arc::clone(&stuck), Arc::clone(&called));
            thread::spawn(move || {
                closing.run(move || {
                    called.wait();
                    stuck.wait();
                })
            })
        };
        called.wait();
        closing.close();
        assert_eq!(caller.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
        assert_eq!(closing.run(|| 7).unwrap_err().kind(), ErrorKind::Canceled);
        stuck.wait();
    }
}
