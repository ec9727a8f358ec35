//! Built-in functions: what PostgreSQL has and DataFusion has not, or has otherwise.
//!
//! Each is declared once ([`declared::Spec`](crate::functions)) with its name, its arguments, its result and the sentence of
//! the manual; `docs/functions.md` is written from the declarations. This crate knows nothing of the engine: they meet in
//! DataFusion's function registry.
//!
//! * `casts`, `input`, `text`: PostgreSQL's text forms, written and read
//! * `numbers`, `strings`, `datetime`, `arrays`, `json`, `tables`: functions by what they are about
//! * `pattern`: the patterns of `to_char` and its like

mod arrays;
mod casts;
mod datetime;
mod declared;
mod input;
mod json;
mod numbers;
mod pattern;
mod rows;
mod strings;
mod tables;
pub mod text;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use declared::{Spec, function};

/// The functions by the chapter of the manual that they stand in.
const CHAPTERS: &[(&str, &[Spec])] = &[
    ("Text", strings::STRINGS),
    ("Numbers", numbers::NUMBERS),
    ("Times and intervals", datetime::TIMES),
    ("JSON", json::JSON),
    ("Arrays", arrays::ARRAYS),
    ("Table functions", tables::TABLES),
    ("Casts", casts::CASTS),
];

/// Other names of functions.
const ALIASES: &[(&str, &[&str])] = &[
    ("json_typeof", &["jsonb_typeof"]),
    ("json_array_length", &["jsonb_array_length"]),
    ("json_extract_path", &["jsonb_extract_path"]),
    ("json_extract_path_text", &["jsonb_extract_path_text"]),
    ("to_json", &["to_jsonb"]),
    ("jsonb_build_object", &["json_build_object"]),
    ("jsonb_build_array", &["json_build_array"]),
    ("jsonb_strip_nulls", &["json_strip_nulls"]),
];

fn aliases(name: &str) -> &'static [&'static str] {
    ALIASES.iter().find(|(of, _)| *of == name).map_or(&[], |(_, aliases)| aliases)
}

/// All functions.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let declared = CHAPTERS.iter().flat_map(|(_, specs)| specs.iter()).map(|spec| match aliases(spec.name) {
        [] => function(spec),
        aliases => Arc::new(function(spec).as_ref().clone().with_aliases(aliases.iter().copied())),
    });
    declared.chain(numbers::checked()).collect()
}

/// The manual's page of functions.
pub fn manual() -> String {
    let mut page = "# Functions\n\nWhat Rondel adds to DataFusion's functions, or has in PostgreSQL's way where DataFusion's \
                    differ; [PostgreSQL's manners](postgres.md) has the rest. All of them are IMMUTABLE: a view may be \
                    grouped, joined and indexed by them. A NULL among the arguments makes NULL, unless the function is about \
                    NULLs.\n"
        .to_owned();
    for (chapter, specs) in CHAPTERS {
        let mut shown = specs.iter().filter(|spec| !spec.doc.is_empty()).peekable();
        if shown.peek().is_none() {
            continue;
        }
        // Writing to memory does not fail.
        let _ = write!(page, "\n## {chapter}\n\n| | |\n|---|---|\n");
        for spec in shown {
            let also: Vec<String> = aliases(spec.name).iter().map(|name| format!("`{name}`")).collect();
            let also = if also.is_empty() { String::new() } else { format!(" Also called {}.", also.join(", ")) };
            let usage = spec.usage.replace('|', "\\|");
            let _ = writeln!(page, "| `{usage}` | {}{also} |", spec.doc.replace('|', "\\|"));
        }
    }
    page
}
