use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use crate::error::{Error, ErrorKind};
use crate::sql::{self, Statement};

use super::*;

mod asof;
mod explained;
mod faults;
mod grouped;
mod joins;
mod leaves;
mod over;
mod refused;
mod shapes;
mod unnest;

/// Relations by name.
#[derive(Default)]
struct Catalog(BTreeMap<String, Arc<Relation>>);

impl Relations for Catalog {
    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn stream(name: &str, columns: Vec<(&str, DataType)>, watermark: Option<(usize, &str)>) -> Relation {
    let fields: Vec<Field> = columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
    Relation {
        name: name.to_owned(),
        schema: Arc::new(Schema::new(fields)),
        kind: RelationKind::Stream,
        changelog: false,
        keys: Vec::new(),
        watermark: watermark
            .map(|(column, expression)| WatermarkDefinition { column, expression: expression.to_owned() }),
        time_columns: Vec::new(),
    }
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Streams `bookings` and `rides` with watermarks, `clicks` without; views over them.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for relation in [
        stream(
            "bookings",
            vec![
                ("id", DataType::Int64),
                ("zone", DataType::Utf8),
                ("price", DataType::Float64),
                ("event_timestamp", timestamp()),
                ("note", DataType::Utf8),
            ],
            Some((3, "event_timestamp - INTERVAL '10' SECOND")),
        ),
        stream(
            "rides",
            vec![
                ("booking", DataType::Int64),
                ("zone", DataType::Utf8),
                ("at", DataType::Timestamp(TimeUnit::Millisecond, None)),
            ],
            Some((2, "at")),
        ),
        stream("clicks", vec![("id", DataType::Int64), ("zone", DataType::Utf8), ("at", timestamp())], None),
    ] {
        catalog.0.insert(relation.name.clone(), Arc::new(relation));
    }
    for (name, definition) in [
        (
            "demand",
            "CREATE MATERIALIZED VIEW demand AS SELECT window_start, window_end, zone, count(*) AS n
          FROM TUMBLE(TABLE bookings, DESCRIPTOR(event_timestamp), INTERVAL '1' MINUTE)
          GROUP BY window_start, window_end, zone EMIT AFTER WATERMARK",
        ),
        (
            "totals",
            "CREATE MATERIALIZED VIEW totals (zone, total) AS SELECT zone, sum(price) FROM bookings GROUP BY zone",
        ),
    ] {
        let Statement::CreateView(view) = sql::parse_one(definition).unwrap().statement else { panic!("a view") };
        let planner = Planner::new(Arc::new(Catalog(catalog.0.clone())), Arc::new(Functions::builtin()));
        let relation = planner.plan_materialized_view(&view).unwrap().relation(name);
        catalog.0.insert(name.to_owned(), Arc::new(relation));
    }
    let Statement::CreateView(view) = sql::parse_one(
        "CREATE VIEW cheap (id, z, \"Price\") AS SELECT id, zone, price, event_timestamp FROM bookings WHERE price < 5",
    )
    .unwrap()
    .statement
    else {
        panic!("a view")
    };
    let planner = Planner::new(Arc::new(Catalog(catalog.0.clone())), Arc::new(Functions::builtin()));
    let (relation, reads) = planner.plan_view(&view).unwrap();
    assert_eq!(reads, ["bookings"]);
    catalog.0.insert("cheap".to_owned(), Arc::new(relation));
    catalog
}

fn planner() -> Planner {
    Planner::new(Arc::new(catalog()), Arc::new(Functions::builtin()))
}

fn planned(text: &str) -> ContinuousPlan {
    let query = sql::parse_query(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    planner().plan_continuous(&query).unwrap_or_else(|error| panic!("{text}: {error} {:?}", error.hint()))
}

fn explained(text: &str) -> String {
    planned(text).explain()
}

fn refusal(text: &str) -> Error {
    let query = sql::parse_query(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    match planner().plan_continuous(&query) {
        Ok(plan) => panic!("{text} is planned:\n{}", plan.explain()),
        Err(error) => error,
    }
}
