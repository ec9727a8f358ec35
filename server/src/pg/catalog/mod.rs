//! The system tables that psql and drivers look into: `pg_catalog` and `information_schema`.
//!
//! They are a DataFusion context of their own, with datafusion-pg-catalog's tables, functions and rewriting of queries that
//! DataFusion would not plan. What tells of relations is ours: their kinds, their stable numbers, their definitions.

mod functions;
mod naming;
mod oid;
mod rewrite;
mod schema;
mod tables;

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::tokenizer::Token;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::StreamExt;
use rondel_engine::engine::{Outcome, Shape};
use rondel_engine::{Error, Result};

use self::schema::{PgCatalogSchema, PublicSchema, is_outline};
use self::tables::SystemRelations;
use crate::frontend::{CatalogView, Session};
use crate::script::Piece;

/// Whether a statement is for the system tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// It names them.
    Theirs,
    /// It names no relation at all.
    NoRelation,
    /// It is the engine's.
    None,
}

/// The name of the one database, and of the role that owns it.
pub(crate) const DATABASE: &str = "rondel";

/// The system tables as one user sees them.
#[derive(Clone)]
pub(crate) struct SystemTables {
    context: SessionContext,
    parser: Arc<PostgresCompatibilityParser>,
    user: Arc<str>,
}

/// A query of system tables, planned.
pub(crate) struct SystemQuery {
    plan: LogicalPlan,
    state: SessionState,
}

impl SystemTables {
    /// The system tables of the relations in `view`.
    pub(crate) fn new(view: Arc<dyn CatalogView>) -> Result<Self> {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, "public")
            .with_information_schema(true)
            .with_target_partitions(1);
        let context = SessionContext::new_with_config(config);
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| Error::from(*error))?;
        let relations = SystemRelations(Arc::clone(&view));
        for function in functions::shared(&relations) {
            context.register_udf(function);
        }
        let missing = || Error::internal("the system catalog is missing");
        let catalog = context.catalog(DATABASE).ok_or_else(missing)?;
        let others = catalog.schema("pg_catalog").ok_or_else(missing)?;
        catalog.register_schema("pg_catalog", Arc::new(PgCatalogSchema { relations, others }))?;
        catalog.register_schema("public", Arc::new(PublicSchema(view)))?;
        Ok(Self { context, parser: Arc::new(PostgresCompatibilityParser::new()), user: DATABASE.into() })
    }

    /// The same for another user.
    pub(crate) fn of_user(&self, user: &str) -> Self {
        Self { user: user.into(), ..self.clone() }
    }

    /// Whether a statement is for the system tables, by the names in it.
    pub(crate) fn interest(piece: &Piece) -> Interest {
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
    pub(crate) async fn plan<S: Session>(&self, piece: &Piece, session: &Arc<S>) -> Result<SystemQuery> {
        let text = rewrite::rewritten(piece);
        let statements = self.parser.parse(&text).map_err(|error| Error::from(DataFusionError::from(error)))?;
        let Some(statement) = statements.into_iter().next() else {
            return Err(Error::internal("a query vanished in its rewriting"));
        };
        let mut state = self.context.state();
        for function in functions::of_connection(&self.user, session) {
            datafusion::execution::FunctionRegistry::register_udf(&mut state, Arc::new(function))?;
        }
        let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
        let plan = state.statement_to_plan(statement).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        refuse_relations(&plan)?;
        Ok(SystemQuery { plan, state })
    }
}

impl SystemQuery {
    /// Its parameters and columns.
    pub(crate) fn shape(&self) -> Shape {
        let types = self.plan.get_parameter_types().unwrap_or_default();
        let numbered = types.into_iter().filter_map(|(name, known)| {
            let number: usize = name.trim_start_matches('$').parse().ok()?;
            Some((number.checked_sub(1)?, known.unwrap_or(DataType::Null)))
        });
        let mut parameters = Vec::new();
        for (index, known) in numbered {
            if parameters.len() <= index {
                parameters.resize(index + 1, DataType::Null);
            }
            parameters[index] = known;
        }
        Shape { parameters, columns: Some(naming::named(&self.plan)) }
    }

    /// Runs it.
    pub(crate) async fn run(&self, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        let frame = DataFrame::new(self.state.clone(), self.plan.clone());
        let frame = if parameters.is_empty() { frame } else { frame.with_param_values(parameters)? };
        let schema = naming::named(&self.plan);
        let rows = frame.execute_stream().await?;
        let of_rows = Arc::clone(&schema);
        let renamed = rows.map(move |batch| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&of_rows), batch.columns().to_vec(), &options)?)
        });
        Ok(Outcome::Rows(Box::pin(RecordBatchStreamAdapter::new(schema, renamed))))
    }
}

/// Relations have columns here and no rows: a query that reads one along with system tables would lie.
fn refuse_relations(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && source_as_provider(&scan.source).is_ok_and(|table| is_outline(table.as_ref()))
        {
            found = Some(scan.table_name.table().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::not_supported(format!("\"{name}\" can't be read together with system tables"))
            .with_hint("ask for both separately")),
    }
}
