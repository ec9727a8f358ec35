//! What the planner needs to know of streams and views.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::logical_expr::{LogicalPlan, TableSource, TableType};

use crate::connector::definition::Upserts;
use crate::error::{Error, Result};
use crate::sql::quoted;

/// A named thing that a query can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// What it is.
    pub kind: RelationKind,
    /// Its rows may be retracted: a view whose results are corrected.
    pub changelog: bool,
    /// Unique keys: sets of columns.
    pub keys: Vec<Vec<usize>>,
    /// A stream's `WATERMARK FOR`.
    pub watermark: Option<WatermarkDefinition>,
    /// A materialized view's columns that grow with the watermark which its job passes on, each with its delay behind
    /// that in microseconds: [`super::ContinuousPlan::passed_on`].
    pub time_columns: Vec<(usize, i64)>,
}

impl Relation {
    /// A stream: append-only rows of this schema.
    pub fn stream(name: &str, schema: SchemaRef, watermark: Option<WatermarkDefinition>) -> Self {
        Self {
            name: name.to_owned(),
            schema,
            kind: RelationKind::Stream,
            changelog: false,
            keys: Vec::new(),
            watermark,
            time_columns: Vec::new(),
        }
    }
}

impl Relation {
    /// A stream whose last row of each key counts.
    pub fn upserts(name: &str, schema: SchemaRef, upserts: &Upserts) -> Result<Self> {
        let list = |names: &[String]| names.iter().map(|name| quoted(name).to_string()).collect::<Vec<_>>().join(", ");
        let (order, deleted) = (quoted(&upserts.order), quoted(&upserts.deleted));
        let query = format!(
            "SELECT {visible} FROM (SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order} DESC) AS \"_newest\" \
             FROM {relation}) AS changes WHERE \"_newest\" = 1 AND NOT {deleted}",
            visible = list(&upserts.visible),
            key = list(&upserts.key),
            relation = quoted(name),
        );
        let visible = upserts.visible.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
        let deleted = upserts.deleted.clone();
        Ok(Self { kind: RelationKind::Upserts { query, visible, deleted }, ..Self::stream(name, schema, None) })
    }

    /// Whether its rows come from outside.
    pub fn is_stream(&self) -> bool {
        matches!(self.kind, RelationKind::Stream | RelationKind::Upserts { .. })
    }

    /// The columns that a query sees.
    pub fn visible_schema(&self) -> Result<SchemaRef> {
        match &self.kind {
            RelationKind::Upserts { visible, .. } => Ok(Arc::new(self.schema.project(visible)?)),
            _ => Ok(Arc::clone(&self.schema)),
        }
    }
}

/// Kinds of relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationKind {
    /// Append-only rows from outside.
    Stream,
    /// Rows from outside that say what the row of a key is now. What is read of them is a query over them as they came,
    /// which names this relation itself.
    Upserts {
        /// The query's text.
        query: String,
        /// The columns that it shows, by index into the relation's.
        visible: Vec<usize>,
        /// The column that is true where the row of a key is gone.
        deleted: String,
    },
    /// Rows that Rondel keeps.
    Table,
    /// A maintained result.
    MaterializedView,
    /// A query that is put in where it is named.
    View {
        /// The query's text.
        query: String,
        /// New names for its columns, from the first on.
        columns: Vec<String>,
    },
}

/// `WATERMARK FOR column AS expression`, validated by [`super::Planner::validate_watermark`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WatermarkDefinition {
    /// The event-time column, by index into the relation's schema.
    pub column: usize,
    /// The expression's text.
    pub expression: String,
}

/// The catalog, as the planner sees it. Names are as written, lower case unless quoted.
pub trait Relations: Send + Sync {
    /// The stream or view of this name.
    fn relation(&self, name: &str) -> Option<Arc<Relation>>;

    /// Why what is there under this name can't be read at present.
    fn why_unreadable(&self, _name: &str) -> Option<Error> {
        None
    }

    /// All names that can be read.
    fn names(&self) -> Vec<String>;

    /// A table that is not a relation of ours but can be read in a snapshot: `pg_catalog.pg_class`.
    fn system_table(&self, _name: &TableReference) -> Option<Arc<dyn TableSource>> {
        None
    }
}

/// A relation as DataFusion's planner holds it in a scan.
#[derive(Clone)]
pub struct RelationSource {
    relation: Arc<Relation>,
    inlined: Option<LogicalPlan>,
}

impl RelationSource {
    /// A relation to scan.
    pub(super) fn scanned(relation: Arc<Relation>) -> Self {
        Self { relation, inlined: None }
    }

    /// A view to put in.
    pub(super) fn inlined(relation: Arc<Relation>, plan: LogicalPlan) -> Self {
        Self { relation, inlined: Some(plan) }
    }

    /// The relation.
    pub fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }
}

impl fmt::Debug for RelationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationSource({})", self.relation.name)
    }
}

impl TableSource for RelationSource {
    fn schema(&self) -> SchemaRef {
        match &self.inlined {
            Some(plan) => Arc::clone(plan.schema().inner()),
            None => Arc::clone(&self.relation.schema),
        }
    }

    fn table_type(&self) -> TableType {
        match self.relation.kind {
            RelationKind::Stream | RelationKind::Upserts { .. } | RelationKind::Table => TableType::Base,
            RelationKind::MaterializedView | RelationKind::View { .. } => TableType::View,
        }
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.inlined.as_ref().map(Cow::Borrowed)
    }
}
