//! The engine in this process, as a [`Frontend`](crate::frontend::Frontend).

use std::sync::Arc;

use rondel_engine::Result;
use rondel_engine::engine::{Engine, Outcome, Parameters, Shape};
use rondel_engine::plan::RelationKind as PlannedKind;
use rondel_engine::session::Session as EngineSession;
use rondel_engine::sql::ParsedStatement;

use crate::frontend::{CatalogView, Frontend, RelationInfo, RelationKind, Session};

/// The engine behind the doors.
#[derive(Clone)]
pub struct Embedded {
    engine: Arc<Engine>,
}

impl Embedded {
    /// The doors to `engine`.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// The engine itself.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl CatalogView for Embedded {
    fn relations(&self) -> Vec<RelationInfo> {
        let relations = self.engine.relations().into_iter().map(|relation| {
            let (kind, definition) = match &relation.kind {
                PlannedKind::Stream => (RelationKind::Stream, None),
                PlannedKind::MaterializedView => (RelationKind::MaterializedView, None),
                PlannedKind::View { query, .. } => (RelationKind::View, Some(query.clone())),
            };
            RelationInfo { name: relation.name.clone(), kind, schema: Arc::clone(&relation.schema), definition }
        });
        relations.collect()
    }
}

impl Frontend for Embedded {
    type Session = EmbeddedSession;

    fn connect(&self, _user: &str, _database: &str) -> Result<Self::Session> {
        Ok(EmbeddedSession(self.engine.session()))
    }

    fn is_ready(&self) -> bool {
        true
    }
}

/// A session of the engine in this process.
pub struct EmbeddedSession(EngineSession);

impl Session for EmbeddedSession {
    type Parsed = ParsedStatement;

    fn parse(&self, sql: &str) -> Result<Vec<Self::Parsed>> {
        self.0.parse(sql)
    }

    fn describe(&self, parsed: &Self::Parsed) -> Result<Shape> {
        self.0.describe(parsed)
    }

    fn execute(&self, parsed: &Self::Parsed, parameters: &Parameters) -> impl Future<Output = Result<Outcome>> + Send {
        self.0.execute(parsed, parameters)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        self.0.set(name, Some(value))
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).ok()
    }

    fn reset(&self) {
        self.0.reset();
    }
}
