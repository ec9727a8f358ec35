//! An engine that is still being opened, as a [`Frontend`]: the doors are there before it, and say so.
//!
//! To bring jobs back from large checkpoints takes a while. Whoever watches the server, and would start it anew if nobody answered,
//! has an answer meanwhile.

use std::sync::OnceLock;

use rondel_engine::engine::EngineSettings;
use rondel_engine::{Error, ErrorKind, Result};

use crate::frontend::{CatalogView, Figure, Frontend, RelationInfo};

/// PostgreSQL's `cannot_connect_now`.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// An engine, once it is there.
pub struct Opening<F>(OnceLock<F>);

impl<F: Frontend> Opening<F> {
    /// No engine yet.
    pub fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Opens the engine. From then on everything is asked of it.
    pub async fn fill(&self, settings: EngineSettings) -> Result<()> {
        let engine = F::open(settings).await?;
        self.0.set(engine).map_err(|_| Error::internal("the engine was opened twice"))
    }
}

impl<F: Frontend> Default for Opening<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Frontend> CatalogView for Opening<F> {
    fn relations(&self) -> Vec<RelationInfo> {
        self.0.get().map(F::relations).unwrap_or_default()
    }
}

impl<F: Frontend> Frontend for Opening<F> {
    type Session = F::Session;

    async fn open(settings: EngineSettings) -> Result<Self> {
        let opening = Self::new();
        opening.fill(settings).await?;
        Ok(opening)
    }

    fn connect(&self, user: &str, database: &str) -> Result<Self::Session> {
        let Some(engine) = self.0.get() else {
            return Err(Error::new(ErrorKind::InvalidState, "the server is starting up")
                .with_code(CANNOT_CONNECT_NOW)
                .with_hint("its jobs are being brought back from their checkpoints: try again in a while"));
        };
        engine.connect(user, database)
    }

    fn is_ready(&self) -> bool {
        self.0.get().is_some_and(F::is_ready)
    }

    async fn finished(&self) -> Result<()> {
        match self.0.get() {
            Some(engine) => engine.finished().await,
            None => std::future::pending().await,
        }
    }

    fn figures(&self) -> Vec<Figure> {
        self.0.get().map(F::figures).unwrap_or_default()
    }

    async fn close(&self) {
        if let Some(engine) = self.0.get() {
            engine.close().await;
        }
    }
}
