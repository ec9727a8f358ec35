//! Stopping in order: one signal that every task can wait for.

use tokio::sync::watch;

/// Tells tasks to stop; the server holds it.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// Waits for the word to stop; every task holds a copy.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A signal that hasn't been given.
pub fn channel() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Gives the signal; again is harmless.
    pub fn shut_down(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits until the signal is given, or can't be given any more.
    pub async fn requested(&mut self) {
        // An error means that the trigger was dropped: nobody is left to serve for.
        let _ = self.0.wait_for(|requested| *requested).await;
    }

    /// Whether the signal was given.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// Waits for SIGTERM or SIGINT (Ctrl-C) of this process.
pub async fn signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
