//! The system tables that psql and drivers look into.

use std::sync::Arc;

use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::tokenizer::Token;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use rondel_engine::engine::{Outcome, Shape};
use rondel_engine::{Error, Result};

use crate::frontend::CatalogView;
use crate::script::Piece;

/// Whether a statement is for the system tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// It names them.
    Theirs,
    /// It names no relation at all.
    NoRelation,
    /// It is the engine's.
    None,
}

/// The name of the one database.
pub(super) const DATABASE: &str = "rondel";

/// A DataFusion context over the system tables.
pub(super) struct SystemTables {
    context: SessionContext,
    parser: PostgresCompatibilityParser,
}

impl SystemTables {
    /// The system tables of the relations in `view`.
    pub(super) fn new(_view: Arc<dyn CatalogView>) -> Result<Self> {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, "public")
            .with_information_schema(true)
            .with_target_partitions(1);
        let context = SessionContext::new_with_config(config);
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| Error::from(*error))?;
        Ok(Self { context, parser: PostgresCompatibilityParser::new() })
    }

    /// Whether a statement is for the system tables, by the names in it.
    pub(super) fn interest(piece: &Piece) -> Interest {
        let words = piece.tokens.iter().filter_map(|token| match token {
            Token::Word(word) => Some(word.value.to_lowercase()),
            _ => None,
        });
        let words: Vec<String> = words.collect();
        match words.first().map(String::as_str) {
            Some("select" | "with" | "values" | "table") => {}
            _ => return Interest::None,
        }
        if words.iter().any(|word| word == "information_schema" || word.starts_with("pg_")) {
            Interest::Theirs
        } else if words.iter().any(|word| word == "from" || word == "table") {
            Interest::None
        } else {
            Interest::NoRelation
        }
    }

    /// Plans a query.
    pub(super) async fn plan(&self, text: &str) -> Result<LogicalPlan> {
        let statements =
            self.parser.parse(text).map_err(|error| Error::from(datafusion::error::DataFusionError::from(error)))?;
        let Some(statement) = statements.into_iter().next() else {
            return Err(Error::internal("a query vanished in its rewriting"));
        };
        let state = self.context.state();
        let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
        let plan = state.statement_to_plan(statement).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        Ok(plan)
    }

    /// A plan's parameters and columns.
    pub(super) fn shape(plan: &LogicalPlan) -> Shape {
        let types = plan.get_parameter_types().unwrap_or_default();
        let mut numbered: Vec<(usize, arrow::datatypes::DataType)> = types
            .into_iter()
            .filter_map(|(name, data_type)| {
                let number = name.trim_start_matches('$').parse().ok()?;
                Some((number, data_type.unwrap_or(arrow::datatypes::DataType::Null)))
            })
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        let count = numbered.last().map_or(0, |(number, _)| *number);
        let mut parameters = vec![arrow::datatypes::DataType::Null; count];
        for (number, data_type) in numbered {
            if let Some(slot) = parameters.get_mut(number.wrapping_sub(1)) {
                *slot = data_type;
            }
        }
        Shape { parameters, columns: Some(Arc::new(plan.schema().as_arrow().clone())) }
    }

    /// Runs a plan.
    pub(super) async fn run(&self, plan: &LogicalPlan, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        let frame = self.context.execute_logical_plan(plan.clone()).await?;
        let frame = if parameters.is_empty() { frame } else { frame.with_param_values(parameters)? };
        Ok(Outcome::Rows(frame.execute_stream().await?))
    }
}
