//! Table functions: a list of rows of one row, for `unnest` and `LATERAL TABLE`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListBuilder, StringBuilder};
use datafusion::common::{Result, exec_datafusion_err};

use crate::declared::{Gives, Kind, Spec, texts};
use crate::rows::{floats, text};

pub(crate) static TABLES: &[Spec] = &[Spec {
    name: "histogrambucket",
    usage: "HistogramBucket(value, '1,2,5')",
    doc: "A row for each bucket of a cumulative histogram that the value falls into: `+Inf`, then each listed bound that is not \
          less than it.",
    takes: &[&[Kind::Float, Kind::Text]],
    repeats: false,
    gives: Gives::Type(texts),
    is_plain: None,
    run: buckets,
}];

fn buckets(args: &[ArrayRef]) -> Result<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..args[0].len() {
        if args.iter().any(|argument| argument.is_null(row)) {
            lists.append_null();
            continue;
        }
        let value = floats(args, 0).value(row);
        lists.values().append_value("+Inf");
        for bound in text(args, 1).value(row).split(',') {
            let limit: f64 = bound
                .trim()
                .parse()
                .map_err(|_| exec_datafusion_err!("HistogramBucket: the bucket \"{bound}\" is no number"))?;
            if value <= limit {
                lists.values().append_value(bound);
            }
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
