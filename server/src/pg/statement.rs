//! Who answers a statement: the server itself, the system tables or the engine.

use std::sync::Arc;

use rondel_engine::engine::{Parameters, Shape};
use rondel_engine::{Error, ErrorKind};

use super::answer::Answer;
use super::catalog::{Interest, SystemQuery, SystemTables};
use super::command::Command;
use super::sqlstate::Fault;
use crate::frontend::Session;
use crate::script::Piece;

/// A statement that was read.
pub(crate) enum Statement<S: Session> {
    /// The server answers.
    Command(Command),
    /// Another answers; which one is known when the catalog is looked at.
    Query(Query<S>),
}

/// A statement for the system tables or the engine.
pub(crate) enum Query<S: Session> {
    /// It names system tables.
    System,
    /// It names no relation: the engine's functions are tried first, then those of the system tables.
    Either(Arc<S::Parsed>),
    /// The engine has read it.
    Engine(Arc<S::Parsed>),
}

/// A statement whose answerer is settled.
pub(crate) enum Resolved<S: Session> {
    /// The system tables.
    System(Arc<SystemQuery>),
    /// The engine.
    Engine(Arc<S::Parsed>),
}

impl<S: Session> Clone for Resolved<S> {
    fn clone(&self) -> Self {
        match self {
            Self::System(query) => Self::System(Arc::clone(query)),
            Self::Engine(parsed) => Self::Engine(Arc::clone(parsed)),
        }
    }
}

impl<S: Session> Statement<S> {
    /// Reads a piece. Nothing is looked up yet, so a script is read as a whole before its first statement runs.
    pub(crate) fn read(piece: &Piece, session: &Arc<S>) -> Result<Self, Fault> {
        match Command::recognise(piece).map_err(|error| Fault::of(error, piece))? {
            Some(command) => Ok(Self::Command(command)),
            None => Query::read(piece, session).map(Self::Query),
        }
    }
}

impl<S: Session> Query<S> {
    /// Reads a piece that is no command.
    pub(crate) fn read(piece: &Piece, session: &Arc<S>) -> Result<Self, Fault> {
        match SystemTables::interest(piece) {
            Interest::Theirs => Ok(Self::System),
            Interest::NoRelation => parse(piece, session).map(Self::Either),
            Interest::None => parse(piece, session).map(Self::Engine),
        }
    }

    /// Settles who answers, and plans what the system tables answer.
    pub(crate) async fn resolve(
        &self,
        piece: &Piece,
        session: &Arc<S>,
        system: &SystemTables,
    ) -> Result<Resolved<S>, Fault> {
        let plan = match self {
            Self::Engine(parsed) => return Ok(Resolved::Engine(Arc::clone(parsed))),
            Self::System => system.plan(piece, session).await.map_err(|error| Fault::of(error, piece))?,
            // The engine's functions come first: an expression means the same with FROM and without.
            Self::Either(parsed) if session.describe(parsed).is_ok() => {
                return Ok(Resolved::Engine(Arc::clone(parsed)));
            }
            Self::Either(parsed) => match system.plan(piece, session).await {
                Ok(plan) => plan,
                // The engine's errors have places.
                Err(_) => return Ok(Resolved::Engine(Arc::clone(parsed))),
            },
        };
        Ok(Resolved::System(Arc::new(plan)))
    }
}

impl<S: Session> Resolved<S> {
    /// Parameters and columns.
    pub(crate) fn describe(&self, piece: &Piece, session: &S) -> Result<Shape, Fault> {
        match self {
            Self::System(query) => Ok(query.shape()),
            Self::Engine(parsed) => session.describe(parsed).map_err(|error| Fault::of(error, piece)),
        }
    }

    /// Runs it; the answer's rows come as long as the answer lives.
    pub(crate) async fn run(self, piece: &Piece, parameters: &Parameters, session: &Arc<S>) -> Result<Answer, Fault> {
        let parameters = parameters.to_vec();
        let answer = match self {
            Self::System(query) => Answer::of(async move { query.run(parameters).await }).await,
            Self::Engine(parsed) => {
                let session = Arc::clone(session);
                Answer::of(async move { session.execute(&parsed, &parameters).await }).await
            }
        };
        answer.map_err(|error| Fault::of(error, piece))
    }
}

fn parse<S: Session>(piece: &Piece, session: &Arc<S>) -> Result<Arc<S::Parsed>, Fault> {
    let read = match piece.dialect() {
        Some(dialect) => session.parse_in(&piece.text, dialect),
        None => session.parse(&piece.text),
    };
    let mut parsed = read.map_err(|error| Fault::of(error, piece))?;
    match (parsed.pop(), parsed.is_empty()) {
        (Some(parsed), true) => Ok(Arc::new(parsed)),
        (Some(_), false) => Err(Error::new(ErrorKind::Syntax, "a semicolon is missing between two statements").into()),
        (None, _) => Err(Error::new(ErrorKind::Syntax, "the statement is empty").into()),
    }
}
