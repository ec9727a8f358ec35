//! BEGIN, COMMIT, ROLLBACK.

use std::sync::Arc;

use super::super::{Session, blocking};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::table::TableView;

/// An open transaction of a session.
#[derive(Default)]
pub(in crate::session) struct Transaction {
    /// The tables as of its first statement, and its changes on top.
    view: Option<TableView>,
    /// A statement has failed: it can only be rolled back.
    pub(super) has_failed: bool,
}

impl Transaction {
    /// The tables as it sees them.
    pub(in crate::session) async fn view(&mut self, engine: &Arc<Engine>) -> Result<&mut TableView> {
        if self.has_failed {
            let sentence = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Error::new(ErrorKind::InvalidState, sentence).with_code("25P02").with_hint("ROLLBACK ends it"));
        }
        match &mut self.view {
            Some(view) => Ok(view),
            none => {
                let tables = Arc::clone(&engine.tables);
                Ok(none.insert(blocking(move || tables.view()).await?))
            }
        }
    }
}

impl Session {
    /// Begins a transaction, if none is open.
    pub async fn begin(&self) {
        self.transaction.lock().await.get_or_insert_default();
    }

    /// Writes what the transaction has changed, and ends it. Answers whether it did; a failed one is rolled back.
    pub async fn commit(&self) -> Result<bool> {
        let Some(open) = self.transaction.lock().await.take() else { return Ok(true) };
        if open.has_failed {
            return Ok(false);
        }
        let Some(view) = open.view else { return Ok(true) };
        let tables = Arc::clone(&self.engine.tables);
        let writer = tables.writer().await;
        let lsn = blocking(move || tables.commit(writer, view.pending(), true)).await?;
        self.show(lsn).await?;
        Ok(true)
    }

    /// Forgets what the transaction has changed, and ends it.
    pub async fn roll_back(&self) {
        self.transaction.lock().await.take();
    }

    /// The tables as the session sees them now.
    pub(in crate::session) async fn table_view(&self) -> Result<TableView> {
        if let Some(open) = &mut *self.transaction.lock().await {
            return open.view(&self.engine).await.cloned();
        }
        let tables = Arc::clone(&self.engine.tables);
        blocking(move || tables.view()).await
    }
}
