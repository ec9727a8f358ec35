//! Streams that look for newer versions of their schemas by themselves.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// From one look at the streams to the next.
const LOOK: Duration = Duration::from_millis(500);

/// See the [module](self). It ends when it is dropped, or with its engine.
pub(crate) struct Refresher(Arc<(Mutex<bool>, Condvar)>);

/// When a stream is looked at next, and what went wrong last.
struct Watch {
    next: Instant,
    trouble: Option<String>,
}

impl Refresher {
    /// Looks after the streams of an engine.
    pub(crate) fn start(engine: Weak<Engine>) -> Result<Self> {
        let stopped: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let until = Arc::clone(&stopped);
        std::thread::Builder::new()
            .name("rondel:schemas".to_owned())
            .spawn(move || {
                let mut watched = HashMap::new();
                loop {
                    let (stopped, bell) = &*until;
                    let stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
                    let (stopped, _) = bell.wait_timeout(stopped, LOOK).unwrap_or_else(PoisonError::into_inner);
                    if *stopped {
                        return;
                    }
                    drop(stopped);
                    let Some(engine) = engine.upgrade() else { return };
                    look(&engine, &mut watched);
                }
            })
            .map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
        Ok(Self(stopped))
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

fn look(engine: &Arc<Engine>, watched: &mut HashMap<String, Watch>) {
    let streams = engine.refreshing();
    watched.retain(|name, _| streams.iter().any(|(stream, _)| stream == name));
    for (name, every) in streams {
        let now = Instant::now();
        let watch = watched.entry(name.clone()).or_insert(Watch { next: now + every, trouble: None });
        if watch.next > now {
            continue;
        }
        watch.next = now + every;
        match engine.refresh_stream(&name) {
            Ok(notices) => {
                watch.trouble = None;
                notices.iter().for_each(|notice| tracing::info!("{notice}"));
            }
            // Said once: it goes on with the version that it has.
            Err(error) if watch.trouble.as_deref() != Some(error.message()) => {
                tracing::warn!(stream = %name, "its schema was not refreshed: {error}");
                watch.trouble = Some(error.message().to_owned());
            }
            Err(_) => {}
        }
    }
}
