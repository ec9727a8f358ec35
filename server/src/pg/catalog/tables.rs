//! The rows of the system tables that tell of relations.
//!
//! A table's columns are those of datafusion-pg-catalog, which follow PostgreSQL's; here are the values of those that say
//! something, and the others are filled with nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int16Array, Int32Array, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use pgwire::api::Type;

use super::super::value::{pg_type, type_modifier, type_size};
use super::{DATABASE, oid};
use crate::frontend::{CatalogView, RelationInfo, RelationKind};

/// The collation of texts, as PostgreSQL numbers its default.
const DEFAULT_COLLATION: i32 = 100;

/// The relations, as rows of the system tables.
#[derive(Clone)]
pub(super) struct SystemRelations(pub(super) Arc<dyn CatalogView>);

impl std::fmt::Debug for SystemRelations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemRelations")
    }
}

/// A relation with its number.
struct Numbered {
    oid: i32,
    relation: RelationInfo,
}

impl SystemRelations {
    /// The rows of a system table; `None` if it doesn't tell of relations.
    pub(super) fn rows(&self, table: &str, columns: &SchemaRef) -> Result<Option<RecordBatch>> {
        let columns = &completed(table, columns);
        let rows = match table {
            "pg_class" => self.pg_class(columns),
            "pg_attribute" => self.pg_attribute(columns),
            "pg_namespace" => pg_namespace(columns),
            "pg_database" => pg_database(columns),
            "pg_roles" => pg_roles(columns),
            "pg_collation" => pg_collation(columns),
            // Rondel has none of them.
            "pg_extension" | "pg_language" | "pg_db_role_setting" | "pg_default_acl" => {
                Ok(RecordBatch::new_empty(Arc::clone(columns)))
            }
            "pg_tables" => self.named(columns, RelationInfo::is_table, "tablename", "tableowner"),
            "pg_views" => self.named(columns, |relation| relation.kind == RelationKind::View, "viewname", "viewowner"),
            "pg_matviews" => {
                let materialized = |relation: &RelationInfo| relation.kind == RelationKind::MaterializedView;
                self.named(columns, materialized, "matviewname", "matviewowner")
            }
            _ => return Ok(None),
        };
        rows.map(Some)
    }

    /// A view's query.
    pub(super) fn definition(&self, oid: i32) -> Option<String> {
        self.numbered().into_iter().find(|numbered| numbered.oid == oid)?.relation.definition
    }

    fn numbered(&self) -> Vec<Numbered> {
        let mut relations = self.0.relations();
        relations.sort_by(|one, other| one.name.cmp(&other.name));
        let oids = oid::of_names(relations.iter().map(|relation| relation.name.as_str()));
        relations.into_iter().zip(oids).map(|(relation, oid)| Numbered { oid, relation }).collect()
    }

    fn pg_class(&self, columns: &SchemaRef) -> Result<RecordBatch> {
        let relations = self.numbered();
        let own = relations.iter().map(|Numbered { oid, relation }| {
            (*oid, relation.name.as_str(), oid::PUBLIC, relation.relkind(), relation.schema.fields().len() as i16)
        });
        let system = PG_CATALOG_TABLES.iter().zip(oid::SYSTEM_TABLES..);
        let system = system.map(|(name, oid)| (oid, *name, oid::PG_CATALOG, "r", 0));
        let rows: Vec<(i32, &str, i32, &str, i16)> = own.chain(system).collect();
        let is_view = |kind: &str| kind == "v" || kind == "m";
        fill(
            columns,
            rows.len(),
            vec![
                ("oid", integers(rows.iter().map(|row| row.0))),
                ("relname", texts(rows.iter().map(|row| row.1))),
                ("relnamespace", integers(rows.iter().map(|row| row.2))),
                ("relkind", texts(rows.iter().map(|row| row.3))),
                ("relnatts", shorts(rows.iter().map(|row| row.4))),
                ("relowner", integers(rows.iter().map(|_| oid::OWNER))),
                ("relfilenode", integers(rows.iter().map(|row| row.0))),
                ("relpersistence", texts(rows.iter().map(|_| "p"))),
                ("relispopulated", booleans(rows.iter().map(|_| true))),
                ("relhasrules", booleans(rows.iter().map(|row| is_view(row.3)))),
                ("relreplident", texts(rows.iter().map(|_| "d"))),
            ],
        )
    }

    fn pg_attribute(&self, columns: &SchemaRef) -> Result<RecordBatch> {
        let relations = self.numbered();
        let attributes: Vec<(i32, i16, &Arc<Field>, Type)> = relations
            .iter()
            .flat_map(|Numbered { oid, relation }| {
                let fields = relation.schema.fields().iter().zip(1_i16..);
                fields.map(|(field, number)| (*oid, number, field, pg_type(field)))
            })
            .collect();
        let is_text = |pg_type: &Type| [Type::TEXT, Type::VARCHAR, Type::TEXT_ARRAY].contains(pg_type);
        let collation = |pg_type: &Type| if is_text(pg_type) { DEFAULT_COLLATION } else { 0 };
        let storage = |pg_type: &Type| if type_size(pg_type) < 0 { "x" } else { "p" };
        fill(
            columns,
            attributes.len(),
            vec![
                ("attrelid", integers(attributes.iter().map(|row| row.0))),
                ("attname", texts(attributes.iter().map(|row| row.2.name().as_str()))),
                ("atttypid", integers(attributes.iter().map(|row| row.3.oid() as i32))),
                ("attlen", shorts(attributes.iter().map(|row| type_size(&row.3)))),
                ("attnum", shorts(attributes.iter().map(|row| row.1))),
                ("attcacheoff", integers(attributes.iter().map(|_| -1))),
                ("attstattarget", integers(attributes.iter().map(|_| -1))),
                ("atttypmod", integers(attributes.iter().map(|row| type_modifier(row.2.data_type())))),
                ("attalign", texts(attributes.iter().map(|_| "i"))),
                ("attstorage", texts(attributes.iter().map(|row| storage(&row.3)))),
                ("attnotnull", booleans(attributes.iter().map(|row| !row.2.is_nullable()))),
                ("attislocal", booleans(attributes.iter().map(|_| true))),
                ("attcollation", integers(attributes.iter().map(|row| collation(&row.3)))),
            ],
        )
    }

    /// `pg_tables`, `pg_views`, `pg_matviews`.
    fn named(
        &self,
        columns: &SchemaRef,
        wanted: impl Fn(&RelationInfo) -> bool,
        name_column: &str,
        owner_column: &str,
    ) -> Result<RecordBatch> {
        let mut relations = self.0.relations();
        relations.retain(wanted);
        let definitions: Vec<Option<&str>> = relations.iter().map(|relation| relation.definition.as_deref()).collect();
        fill(
            columns,
            relations.len(),
            vec![
                ("schemaname", texts(relations.iter().map(|_| "public"))),
                (name_column, texts(relations.iter().map(|relation| relation.name.as_str()))),
                (owner_column, texts(relations.iter().map(|_| DATABASE))),
                ("ispopulated", booleans(relations.iter().map(|_| true))),
                ("definition", Arc::new(StringArray::from(definitions))),
            ],
        )
    }
}

impl RelationInfo {
    /// Streams and sinks have no kind of their own in PostgreSQL: they are shown as tables.
    fn relkind(&self) -> &'static str {
        match self.kind {
            RelationKind::Stream | RelationKind::Table | RelationKind::Sink => "r",
            RelationKind::View => "v",
            RelationKind::MaterializedView => "m",
        }
    }

    fn is_table(&self) -> bool {
        self.relkind() == "r"
    }
}

/// Columns that datafusion-pg-catalog leaves out or has as texts, though clients take them for arrays.
fn completed(table: &str, columns: &SchemaRef) -> SchemaRef {
    let texts = || DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let mut fields: Vec<Arc<Field>> = columns.fields().iter().cloned().collect();
    for field in &mut fields {
        if ["acl", "options", "setconfig"].iter().any(|end| field.name().ends_with(end)) {
            *field = Arc::new(field.as_ref().clone().with_data_type(texts()).with_nullable(true));
        }
    }
    if table == "pg_class" {
        fields.extend(["reloptions", "relacl"].map(|name| Arc::new(Field::new(name, texts(), true))));
    }
    if table == "pg_collation" {
        // Its name before PostgreSQL 17, which psql of that time asks for.
        fields.push(Arc::new(Field::new("colliculocale", DataType::Utf8, true)));
    }
    if table == "pg_class" || table == "pg_language" {
        fields.push(Arc::new(Field::new("tableoid", DataType::Int32, true)));
    }
    Arc::new(Schema::new(fields))
}

/// Text has one order, that of its bytes, under PostgreSQL's names for it.
fn pg_collation(columns: &SchemaRef) -> Result<RecordBatch> {
    let collations = [(DEFAULT_COLLATION, "default", "d"), (950, "C", "c"), (951, "POSIX", "c")];
    let order = || texts(collations.iter().map(|_| "C"));
    fill(
        columns,
        collations.len(),
        vec![
            ("oid", integers(collations.iter().map(|collation| collation.0))),
            ("collname", texts(collations.iter().map(|collation| collation.1))),
            ("collnamespace", integers(collations.iter().map(|_| oid::PG_CATALOG))),
            ("collowner", integers(collations.iter().map(|_| oid::OWNER))),
            ("collprovider", texts(collations.iter().map(|collation| collation.2))),
            ("collisdeterministic", booleans(collations.iter().map(|_| true))),
            ("collencoding", integers(collations.iter().map(|_| -1))),
            ("collcollate", order()),
            ("collctype", order()),
        ],
    )
}

fn pg_namespace(columns: &SchemaRef) -> Result<RecordBatch> {
    let schemas =
        [(oid::PG_CATALOG, "pg_catalog"), (oid::PUBLIC, "public"), (oid::INFORMATION_SCHEMA, "information_schema")];
    fill(
        columns,
        schemas.len(),
        vec![
            ("oid", integers(schemas.iter().map(|schema| schema.0))),
            ("nspname", texts(schemas.iter().map(|schema| schema.1))),
            ("nspowner", integers(schemas.iter().map(|_| oid::OWNER))),
        ],
    )
}

fn pg_database(columns: &SchemaRef) -> Result<RecordBatch> {
    fill(
        columns,
        1,
        vec![
            ("oid", integers([oid::DATABASE])),
            ("datname", texts([DATABASE])),
            ("datdba", integers([oid::OWNER])),
            // UTF-8, in PostgreSQL's numbers of encodings.
            ("encoding", integers([6])),
            ("datlocprovider", texts(["c"])),
            ("datcollate", texts(["C"])),
            ("datctype", texts(["C"])),
            ("datallowconn", booleans([true])),
            ("datconnlimit", integers([-1])),
        ],
    )
}

fn pg_roles(columns: &SchemaRef) -> Result<RecordBatch> {
    let yes = || booleans([true]);
    fill(
        columns,
        1,
        vec![
            ("oid", integers([oid::OWNER])),
            ("rolname", texts([DATABASE])),
            ("rolsuper", yes()),
            ("rolinherit", yes()),
            ("rolcreaterole", yes()),
            ("rolcreatedb", yes()),
            ("rolcanlogin", yes()),
            ("rolreplication", booleans([false])),
            ("rolbypassrls", yes()),
            ("rolconnlimit", integers([-1])),
        ],
    )
}

/// A batch of so many rows: the values that are known, and of the other columns NULL, zero, false or nothing.
fn fill(columns: &SchemaRef, rows: usize, known: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let arrays = columns.fields().iter().map(|field| match known.iter().find(|(name, _)| name == field.name()) {
        Some((_, array)) => Ok(arrow::compute::cast(array, field.data_type())?),
        None if field.is_nullable() => Ok(new_null_array(field.data_type(), rows)),
        None => nothing(field.data_type())?.to_array_of_size(rows),
    });
    Ok(RecordBatch::try_new(Arc::clone(columns), arrays.collect::<Result<_>>()?)?)
}

fn nothing(data_type: &DataType) -> Result<ScalarValue> {
    match data_type {
        DataType::Utf8 => Ok(ScalarValue::from("")),
        DataType::Boolean => Ok(ScalarValue::from(false)),
        other => ScalarValue::new_zero(other),
    }
}

fn integers(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn shorts(values: impl IntoIterator<Item = i16>) -> ArrayRef {
    Arc::new(Int16Array::from_iter_values(values))
}

fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn booleans(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(values.into_iter().map(Some)))
}
