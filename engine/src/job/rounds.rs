//! A thread that looks after an engine, again and again.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// See the [module](self). It ends when it is dropped, or with its engine.
pub(crate) struct Rounds {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Rounds {
    /// Calls `look` every half second, on a thread of this name.
    pub(super) fn start(
        name: &str,
        engine: Weak<Engine>,
        mut look: impl FnMut(&Arc<Engine>) + Send + 'static,
    ) -> Result<Self> {
        let stopped: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let until = Arc::clone(&stopped);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                let (stopped, bell) = &*until;
                let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
                let (stopped, _) = bell.wait_timeout(stopped, PAUSE).unwrap_or_else(PoisonError::into_inner);
                if *stopped {
                    return;
                }
                drop(stopped);
                let Some(engine) = engine.upgrade() else { return };
                look(&engine);
            }
        });
        let thread = thread
            .map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
        Ok(Self { stopped, thread: Mutex::new(Some(thread)) })
    }

    /// Looks no more, and waits for the look that is under way.
    pub(crate) fn stop(&self) {
        self.tell();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last one who holds the engine may be the thread itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }

    fn tell(&self) {
        *self.stopped.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.1.notify_all();
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.tell();
    }
}
