//! Cancel requests: Ctrl-C in psql opens a second connection that names the first by its process id and secret key.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The connections that can be asked to stop their statement.
#[derive(Debug, Default)]
pub(super) struct CancelRegistry {
    connections: Mutex<HashMap<i32, (i32, watch::Sender<u64>)>>,
    next: AtomicI32,
}

/// One connection's place in the registry; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct CancelKey {
    /// What the protocol calls the process id.
    pub(super) id: i32,
    /// Known to the client only.
    pub(super) secret: i32,
    registry: Arc<CancelRegistry>,
}

/// Waits for a request to cancel what runs. Counts requests, so that one that came before a statement is forgotten.
#[derive(Debug, Clone)]
pub(super) struct Cancellation(watch::Receiver<u64>);

impl CancelRegistry {
    /// Enters a connection.
    pub(super) fn enter(self: &Arc<Self>) -> (CancelKey, Cancellation) {
        let id = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // Its keys come from the operating system's randomness: not to be guessed by another user of the port.
        let secret = RandomState::new().hash_one(id) as i32;
        let (sender, receiver) = watch::channel(0);
        self.lock().insert(id, (secret, sender));
        (CancelKey { id, secret, registry: Arc::clone(self) }, Cancellation(receiver))
    }

    /// Cancels what the connection runs, if the key is right. The protocol gives no answer either way.
    pub(super) fn cancel(&self, id: i32, secret: i32) {
        if let Some((own, sender)) = self.lock().get(&id)
            && *own == secret
        {
            sender.send_modify(|requests| *requests += 1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, (i32, watch::Sender<u64>)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CancelKey {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}

impl Cancellation {
    /// A statement begins: requests that came before it are forgotten.
    pub(super) fn begin(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a request.
    pub(super) async fn requested(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(test)]
    pub(super) fn is_requested(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_key_cancels_and_only_what_runs() {
        let registry = Arc::new(CancelRegistry::default());
        let (key, mut cancellation) = registry.enter();
        let (other, other_cancellation) = registry.enter();
        assert_ne!(key.id, other.id);
        registry.cancel(key.id, key.secret.wrapping_add(1));
        assert!(!cancellation.is_requested());
        registry.cancel(key.id, key.secret);
        assert!(cancellation.is_requested() && !other_cancellation.is_requested());
        cancellation.begin();
        assert!(!cancellation.is_requested());
        registry.cancel(key.id, key.secret);
        cancellation.requested().await;
        let (id, secret) = (key.id, key.secret);
        drop(key);
        registry.cancel(id, secret);
        assert_eq!(registry.lock().len(), 1);
    }
}
