//! Streams that look for newer versions of their schemas by themselves.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::rounds::Rounds;
use crate::engine::Engine;
use crate::error::Result;

/// When a stream is looked at next, and what went wrong last.
struct Watch {
    next: Instant,
    trouble: Option<String>,
}

/// Looks after the streams of an engine.
pub(crate) fn refresh_streams(engine: Weak<Engine>) -> Result<Rounds> {
    let mut watched = HashMap::new();
    Rounds::start("rondel:schemas", engine, move |engine| look(engine, &mut watched))
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
