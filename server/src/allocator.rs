//! How long the allocator keeps memory that was given back to it before the system has it.
//!
//! By default a second: what is wanted again is there, and threads do not wait for the system. In a second much can be given back,
//! though. So while the process holds nearly as much as its jobs may, memory goes back at once.

use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

use crate::process;

/// The allocator's option `mi_option_purge_delay`, in milliseconds, by its number: its crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;
/// The same in the environment: who sets it has decided.
const ENVIRONMENT: &str = "MIMALLOC_PURGE_DELAY";

/// As the allocator has it by itself.
const USUAL: Duration = Duration::from_secs(1);
/// At once: where rows go to disk as fast as they come, much is given back in a few milliseconds.
const SHORT: Duration = Duration::ZERO;

const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Keeps what is resident near `limit` bytes, as far as it was given back. Never ends, where the system tells what is resident
/// and nobody has decided otherwise.
pub(crate) async fn give_back_near(limit: usize) {
    if std::env::var_os(ENVIRONMENT).is_some() {
        return;
    }
    let mut current = USUAL;
    while let Some(memory) = process::memory() {
        let delay = delay(memory.resident as usize, limit);
        if delay != current {
            keep_for(delay);
            if delay == SHORT {
                // What waits for its second to be over does not wait for it.
                give_back();
            }
            current = delay;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

fn delay(resident: usize, limit: usize) -> Duration {
    if resident > limit / 4 * 3 { SHORT } else { USUAL }
}

#[allow(unsafe_code)]
fn keep_for(time: Duration) {
    // SAFETY: the option exists, is a number that is looked up whenever memory is given back, and may change at any time.
    unsafe { mi_option_set(PURGE_DELAY, time.as_millis() as _) }
}

#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: it may be called at any time, and takes nothing that anybody has.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn the_options_number_is_that_of_the_delay() {
        // SAFETY: the option exists.
        let current = || unsafe { mi_option_get(PURGE_DELAY) };
        if std::env::var_os(ENVIRONMENT).is_none() {
            assert_eq!(
                current(),
                1000,
                "a new version of the allocator counts its options otherwise, or has another default"
            );
        }
        keep_for(SHORT);
        assert_eq!(current(), 0);
        keep_for(USUAL);
        assert_eq!(current(), 1000);
    }

    #[test]
    fn memory_is_kept_as_long_as_there_is_room() {
        assert_eq!(delay(384 << 20, 512 << 20), USUAL);
        assert_eq!(delay((384 << 20) + 1, 512 << 20), SHORT);
    }
}
