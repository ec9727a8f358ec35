//! Calls that may panic: an operator's panic is an error of its job, never the end of the pool.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::{Error, Result};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static TRACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `call`; a panic in it becomes an internal error whose detail says where.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    install_hook();
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        let error = Error::internal(format!("a panic in an operator: {}", words(panic.as_ref())))
            .with_hint("this is a fault of Rondel: please report it with the statement");
        Err(match TRACE.take() {
            Some(trace) => error.with_detail(trace),
            None => error,
        })
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

/// Keeps a guarded panic's backtrace for the job's reason; other panics go where they went before.
fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDED.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                TRACE.set(Some(format!("at {place}\n{}", Backtrace::force_capture())));
            } else {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_where() {
        let error = guarded::<()>(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(error.message(), "a panic in an operator: number 7");
        assert!(error.detail().unwrap().contains("guarded.rs"));
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }
}
