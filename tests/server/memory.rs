//! An engine in memory: what the server's doors are tested with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use futures::StreamExt;
use rondel_engine::engine::{EngineSettings, EpochChanges, Outcome, Parameters, Shape};
use rondel_engine::error::Position;
use rondel_engine::{Delta, Error, ErrorKind, Result};
use rondel_server::frontend::{CatalogView, Figure, Frontend, RelationInfo, RelationKind, Session};

/// Tables in memory and subscriptions without an end.
pub(super) struct MemoryEngine {
    context: SessionContext,
    running: Arc<AtomicUsize>,
    ready: AtomicBool,
}

/// A connection's session.
pub(super) struct MemorySession {
    context: SessionContext,
    running: Arc<AtomicUsize>,
    variables: Mutex<HashMap<String, String>>,
}

/// A statement.
pub(super) enum Parsed {
    Subscribe(String),
    Create(String),
    Set(String, String),
    Show(String),
    Query(Box<Statement>),
}

impl MemoryEngine {
    pub(super) fn new() -> Self {
        let config = SessionConfig::new().with_target_partitions(1);
        let context = SessionContext::new_with_config(config);
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]));
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec![Some("Berlin"), None, Some("tab\there")])),
        ];
        context.register_batch("cities", RecordBatch::try_new(schema, columns).unwrap()).unwrap();
        Self { context, running: Arc::default(), ready: AtomicBool::new(true) }
    }

    /// Subscriptions whose stream was not dropped.
    pub(super) fn running_subscriptions(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

impl CatalogView for MemoryEngine {
    fn relations(&self) -> Vec<RelationInfo> {
        let columns = |fields: Vec<Field>| Arc::new(Schema::new(fields));
        let relation = |name: &str, kind, schema: SchemaRef, definition: Option<&str>| RelationInfo {
            name: name.to_owned(),
            kind,
            schema,
            definition: definition.map(str::to_owned),
        };
        let id = || Field::new("id", DataType::Int64, false);
        let name = || Field::new("name", DataType::Utf8, true);
        let at = Field::new("at", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None), true);
        let price = Field::new("price", DataType::Decimal128(10, 2), true);
        let tags = Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), true);
        vec![
            relation("cities", RelationKind::Table, columns(vec![id(), name()]), None),
            relation("bookings", RelationKind::Stream, columns(vec![id(), at, price, tags]), None),
            relation("big_cities", RelationKind::View, columns(vec![id()]), Some("SELECT id FROM cities")),
            relation("demand", RelationKind::MaterializedView, columns(vec![name()]), Some("SELECT name FROM cities")),
            relation("Odd Name", RelationKind::Sink, columns(vec![id()]), None),
        ]
    }
}

impl Frontend for MemoryEngine {
    type Session = MemorySession;

    fn connect(&self, user: &str, _database: &str) -> Result<MemorySession> {
        if user == "nobody" {
            return Err(Error::new(ErrorKind::InvalidState, "nobody is not let in"));
        }
        Ok(MemorySession {
            context: self.context.clone(),
            running: Arc::clone(&self.running),
            variables: Mutex::default(),
        })
    }

    async fn open(_settings: EngineSettings) -> Result<Self> {
        Ok(Self::new())
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    async fn finished(&self) -> Result<()> {
        Ok(())
    }

    fn figures(&self) -> Vec<Figure> {
        vec![Figure {
            name: "rondel_job_rows_in_total",
            help: "Rows.",
            is_counter: true,
            job: Some("j".into()),
            operator: None,
            value: 7.0,
        }]
    }

    async fn close(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }
}

/// Counts a subscription as long as it lives.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl MemorySession {
    fn subscribe(&self, name: &str) -> Result<Outcome> {
        let schema = subscription_schema();
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(Arc::clone(&self.running));
        // Milliseconds between epochs; rows in each.
        let (interval, rows) = match name {
            "ticks" => (20, 2),
            "flood" => (0, 1000),
            "silence" => (u64::MAX, 0),
            other => {
                let sentence = format!("there is no view \"{other}\"");
                return Err(Error::new(ErrorKind::UndefinedObject, sentence));
            }
        };
        let of_epochs = Arc::clone(&schema);
        let stream = futures::stream::unfold((1_u64, running), move |(epoch, running)| {
            let schema = Arc::clone(&of_epochs);
            async move {
                match interval {
                    0 => tokio::task::yield_now().await,
                    u64::MAX => std::future::pending().await,
                    interval => tokio::time::sleep(Duration::from_millis(interval)).await,
                }
                let values = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| epoch as i64 * rows + row)));
                let batch = RecordBatch::try_new(schema, vec![values]).unwrap();
                let weights = Int64Array::from_iter_values((0..rows).map(|row| if row % 2 == 0 { 1 } else { -1 }));
                let changes = EpochChanges { epoch, deltas: vec![Delta::weighted(batch, weights)] };
                Some((Ok(changes), (epoch + 1, running)))
            }
        });
        Ok(Outcome::Changes { schema, stream: stream.boxed(), copy: false })
    }

    async fn plan(&self, statement: &Statement) -> Result<LogicalPlan> {
        Ok(self.context.state().statement_to_plan(statement.clone()).await?)
    }
}

fn show_schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]))
}

fn subscription_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]))
}

impl Session for MemorySession {
    type Parsed = Parsed;

    fn parse_in(&self, sql: &str, _dialect: &str) -> Result<Vec<Parsed>> {
        self.parse(sql)
    }

    fn parse(&self, sql: &str) -> Result<Vec<Parsed>> {
        let words: Vec<&str> = sql.split_whitespace().collect();
        match words.as_slice() {
            [first, _, view] if first.eq_ignore_ascii_case("subscribe") => {
                return Ok(vec![Parsed::Subscribe((*view).to_owned())]);
            }
            [first, name, _, value] if first.eq_ignore_ascii_case("set") => {
                return Ok(vec![Parsed::Set(name.to_lowercase(), value.trim_matches('\'').to_owned())]);
            }
            [first, name] if first.eq_ignore_ascii_case("show") => return Ok(vec![Parsed::Show(name.to_lowercase())]),
            [first, what, ..] if first.eq_ignore_ascii_case("create") => {
                return Ok(vec![Parsed::Create(format!("CREATE {}", what.to_uppercase()))]);
            }
            _ => {}
        }
        let mut parser = DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).build()?;
        match parser.parse_statements() {
            Ok(statements) => Ok(statements.into_iter().map(|statement| Parsed::Query(Box::new(statement))).collect()),
            Err(error) => {
                let error = Error::from(error);
                let place = regex::Regex::new(r" at Line: (\d+), Column: (\d+)").unwrap();
                match place.captures(error.message()) {
                    Some(found) => {
                        let (line, column) = (found[1].parse().unwrap(), found[2].parse().unwrap());
                        let sentence = place.replace(error.message(), "").into_owned();
                        Err(Error::new(ErrorKind::Syntax, sentence)
                            .with_hint("look at the caret")
                            .at(Position { line, column }))
                    }
                    None => Err(error),
                }
            }
        }
    }

    fn describe(&self, parsed: &Parsed) -> Result<Shape> {
        match parsed {
            Parsed::Subscribe(_) => Ok(Shape { parameters: Vec::new(), columns: Some(subscription_schema()) }),
            Parsed::Create(_) | Parsed::Set(..) => Ok(Shape { parameters: Vec::new(), columns: None }),
            Parsed::Show(name) => Ok(Shape { parameters: Vec::new(), columns: Some(show_schema(name)) }),
            Parsed::Query(statement) => {
                let plan = futures::executor::block_on(self.plan(statement))?;
                let mut types: Vec<_> = plan.get_parameter_types()?.into_iter().collect();
                types.sort();
                let parameters = types.into_iter().map(|(_, known)| known.unwrap_or(DataType::Null)).collect();
                Ok(Shape { parameters, columns: Some(Arc::new(plan.schema().as_arrow().clone())) })
            }
        }
    }

    async fn execute(&self, parsed: &Parsed, parameters: &Parameters) -> Result<Outcome> {
        match parsed {
            Parsed::Subscribe(name) => self.subscribe(name),
            Parsed::Create(tag) => {
                Ok(Outcome::Done { tag: tag.clone(), notices: vec!["the test's engine keeps nothing".to_owned()] })
            }
            Parsed::Set(name, value) => {
                self.set(name, value)?;
                Ok(Outcome::Done { tag: "SET".to_owned(), notices: Vec::new() })
            }
            Parsed::Show(name) => {
                let missing = || Error::new(ErrorKind::UndefinedObject, format!("there is no setting '{name}'"));
                let value = self.get(name).ok_or_else(missing)?;
                let values = Arc::new(StringArray::from(vec![value]));
                let batch = RecordBatch::try_new(show_schema(name), vec![values])?;
                Ok(Outcome::Rows(self.context.read_batch(batch)?.execute_stream().await?))
            }
            Parsed::Query(statement) => {
                let plan = self.plan(statement).await?;
                let frame = self.context.execute_logical_plan(plan).await?;
                let frame = frame.with_param_values(parameters.to_vec())?;
                Ok(Outcome::Rows(frame.execute_stream().await?))
            }
        }
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        if !matches!(name, "application_name" | "dialect" | "timezone") {
            return Err(Error::new(ErrorKind::UndefinedObject, format!("there is no setting '{name}'")));
        }
        self.variables.lock().unwrap().insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn get(&self, name: &str) -> Option<String> {
        let default = match name {
            "application_name" => "",
            "dialect" => "postgres",
            "timezone" => "UTC",
            "server_version" => "15.0 (Rondel test)",
            _ => return None,
        };
        Some(self.variables.lock().unwrap().get(name).cloned().unwrap_or_else(|| default.to_owned()))
    }

    fn reset(&self) {
        self.variables.lock().unwrap().clear();
    }
}
