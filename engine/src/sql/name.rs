//! Names of streams, views, sinks and jobs.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName};

use crate::error::{Error, Result};

use super::text::position_of;

/// A name as the catalog holds it: lower case unless quoted.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The name of an object of Rondel. There is one schema, `public`, which may be named.
pub fn statement_name(name: &ObjectName) -> Result<String> {
    let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts.as_deref() {
        Some([name]) => Ok(folded(name)),
        Some([schema, name]) if folded(schema) == "public" => Ok(folded(name)),
        _ => {
            let error =
                Error::not_supported(format!("the name {name} has a schema, and there is only the schema public"))
                    .with_hint("write the name alone");
            let first = name.0.first().and_then(|part| part.as_ident()).and_then(|ident| position_of(ident.span.start));
            Err(match first {
                Some(position) => error.at(position),
                None => error,
            })
        }
    }
}

/// A name as SQL text that reads back as the same name: quoted where it must be.
pub fn quoted(name: &str) -> String {
    let mut characters = name.chars();
    let plain = characters.next().is_some_and(|c| c == '_' || c.is_ascii_lowercase())
        && characters.all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
        && !is_reserved(name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Whether the parser takes the word for something else where a name stands.
fn is_reserved(name: &str) -> bool {
    use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
    name == "emit" || ALL_KEYWORDS.binary_search(&name.to_uppercase().as_str()).is_ok()
}
