//! The house's order, read off the tree: what style asks for and a compiler does not check.

use std::fs;
use std::path::PathBuf;

use regex::Regex;
use rondel_tests::documents::{files_below, sql_files};
use rondel_tests::{Result, root};

/// No source file is longer.
const LINES_MAX: usize = 800;

/// No function is longer, tests excepted; 70 is the aim.
const FUNCTION_LINES_MAX: usize = 100;

/// Files that may be longer than [`LINES_MAX`], up to so many lines, each with the reason. Numbers only go down.
const LONG: &[(&str, usize, &str)] = &[];

/// Who may name what: (what it is, pattern, folder it is looked for in, where it may stand).
const PLACES: &[(&str, &str, &str, &[&str])] = &[
    ("rdkafka", r"\brdkafka(_sys)?::", "engine/src", &["engine/src/connector/kafka"]),
    ("rdkafka", r"\brdkafka(_sys)?::", "server/src", &[]),
    ("pgwire", r"\b(pgwire|arrow_pg|datafusion_pg_catalog)::", "server/src", &["server/src/pg"]),
    ("pgwire", r"\b(pgwire|arrow_pg|datafusion_pg_catalog)::", "engine/src", &[]),
    ("timely", r"\btimely::", "engine/src", &["engine/src/dataflow"]),
    ("timely", r"\btimely::", "server/src", &[]),
    ("fjall", r"\bfjall::", "engine/src", &["engine/src/catalog", "engine/src/table"]),
    ("axum", r"\baxum::", "server/src", &["server/src/http"]),
    ("the server", r"\brondel_server::", "engine/src", &[]),
    ("the functions' crate", r"\brondel_udfs::", "engine/src", &[]),
    ("the engine", r"\brondel_(engine|server)::", "udfs/src", &[]),
    ("tokio", r"\btokio::", "engine/src/operator", &[]),
    ("tokio", r"\btokio::", "engine/src/state", &[]),
    ("input and output", r"\bstd::(fs|net|io|process|thread)\b", "engine/src/operator", &[]),
    ("input and output", r"\bstd::(fs|net|io|process|thread)\b", "engine/src/state", &[]),
    ("the clock", r"\b(Instant|SystemTime)\b", "engine/src/operator", &[]),
    ("the clock", r"\b(Instant|SystemTime)\b", "engine/src/state", &[]),
    (
        "what stands above operators",
        r"\bcrate::(dataflow|connector|catalog|sql|job|batch)::",
        "engine/src/operator",
        &[],
    ),
    (
        "what stands above state",
        r"\bcrate::(operator|dataflow|connector|catalog|sql|plan|job|batch)::",
        "engine/src/state",
        &[],
    ),
    (
        "what stands above formats",
        r"\bcrate::(connector::(kafka|registry|channel)|operator|dataflow|plan|sql|job|batch)::",
        "engine/src/format",
        &[],
    ),
    (
        "what stands above schemas",
        r"\bcrate::(connector|operator|dataflow|plan|sql|job|batch)::",
        "engine/src/schema",
        &[],
    ),
    ("what stands above connectors", r"\bcrate::(operator|dataflow|plan|sql|job|batch)::", "engine/src/connector", &[]),
    ("object_store", r"\bobject_store::", "engine/src/dataflow", &[]),
    ("object_store", r"\bobject_store::", "engine/src/operator", &[]),
    ("what stands above checkpoints", r"\bcrate::(sql|plan|session|batch|engine)::", "engine/src/checkpoint", &[]),
    ("what stands above plans", r"\bcrate::(operator|dataflow|job|batch)::", "engine/src/plan", &[]),
];

/// What stands nowhere in Rust code: (pattern, what to do instead).
const BANNED: &[(&str, &str)] = &[
    (r"\btodo!", "write it, or open an issue"),
    (r"\bunimplemented!", "refuse it with an error that names it"),
    (r"\bdbg!", "use tracing"),
    (r"\b(TODO|FIXME|XXX)\b", "write it, or open an issue"),
    (r"\b(struct|enum|trait|type|mod) \w*(Manager|Helpers?|Utils?|Common)\b", "name the thing by what it is"),
    (r"\b(mod) (manager|helpers?|utils?|common|misc)\b", "name the room by what is in it"),
    (r"#!?\[allow\(dead_code\)\]", "delete what nobody uses"),
];

#[test]
fn files_are_short() -> Result<()> {
    let mut wrong = Vec::new();
    for (path, text) in rust_files("")? {
        let lines = text.lines().count();
        let limit = LONG.iter().find(|(long, ..)| *long == path).map_or(LINES_MAX, |(_, limit, _)| *limit);
        if lines > limit {
            wrong.push(format!("{path} has {lines} lines, of {limit} at most: split it by its ideas"));
        }
    }
    for (path, limit, reason) in LONG {
        assert!(!reason.is_empty(), "{path} is in LONG without a reason");
        let lines = fs::read_to_string(root().join(path)).map_or(0, |text| text.lines().count());
        if lines <= LINES_MAX {
            wrong.push(format!("{path} has {lines} lines: strike it from LONG"));
        } else if lines + 100 < *limit {
            wrong.push(format!("{path} has {lines} lines: lower its limit of {limit}"));
        }
    }
    none(wrong);
    Ok(())
}

#[test]
fn functions_are_short() -> Result<()> {
    let mut wrong = Vec::new();
    for (path, text) in rust_files("")? {
        if path.starts_with("tests/") || path.contains("/tests") {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (start, name, length) in functions(&lines)? {
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!("{path}:{start}: {name} has {length} lines, of {FUNCTION_LINES_MAX} at most"));
            }
        }
    }
    none(wrong);
    Ok(())
}

/// The functions of a file as rustfmt leaves it: line from 1, name, number of lines. A body ends at the first closing
/// brace that stands as far in as its `fn` line.
fn functions<'a>(lines: &[&'a str]) -> Result<Vec<(usize, &'a str, usize)>> {
    let head = Regex::new(r#"^(\s*)(?:pub(?:\([^)]*\))? )?(?:async |const |unsafe |extern "C" )*fn (\w+)"#)?;
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(parts) = head.captures(line) else { continue };
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", &parts[1]);
        let length = lines[start..].iter().position(|line| *line == end).unwrap_or(0) + 1;
        found.push((start + 1, parts.get(2).map_or("", |name| name.as_str()), length));
    }
    Ok(found)
}

#[test]
fn a_functions_length_is_counted() -> Result<()> {
    let text = "impl X {\n    pub(crate) async fn long(\n        a: u8,\n    ) {\n        if a {\n        }\n    }\n}\nfn short() {}\nfn two() {\n}";
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(functions(&lines)?, [(2, "long", 6), (10, "two", 2)]);
    Ok(())
}

#[test]
fn dependencies_point_downwards() -> Result<()> {
    let mut wrong = Vec::new();
    for (what, pattern, folder, places) in PLACES {
        let pattern = Regex::new(pattern)?;
        for (path, text) in rust_files(folder)? {
            if places.iter().any(|place| path.starts_with(place)) || path.contains("/tests") {
                continue;
            }
            for (number, line) in code_lines(&text) {
                if pattern.is_match(line) {
                    wrong.push(format!("{path}:{number} names {what}, which belongs in {places:?}: {}", line.trim()));
                }
            }
        }
    }
    none(wrong);
    Ok(())
}

#[test]
fn banned_words_are_absent() -> Result<()> {
    let banned =
        BANNED.iter().map(|(pattern, instead)| Ok((Regex::new(pattern)?, *instead))).collect::<Result<Vec<_>>>()?;
    let mut wrong = Vec::new();
    for (path, text) in rust_files("")? {
        if path == "tests/tidy.rs" {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            for (pattern, instead) in &banned {
                if pattern.is_match(line) {
                    wrong.push(format!("{path}:{}: {instead}: {}", index + 1, line.trim()));
                }
            }
        }
    }
    none(wrong);
    Ok(())
}

#[test]
fn every_sql_file_is_run_by_a_test() -> Result<()> {
    let run: Vec<PathBuf> = super::sql_files::RUN.iter().map(|(file, _)| root().join("sql").join(file)).collect();
    let found = sql_files()?;
    for file in &found {
        assert!(run.contains(file), "{} is run by no test: add it to RUN in tests/sql_files.rs", file.display());
    }
    for file in &run {
        assert!(found.contains(file), "{} is gone: strike it from RUN in tests/sql_files.rs", file.display());
    }
    Ok(())
}

/// What builds and tests reach out to comes through the package clients by name; everything else is on this machine.
#[test]
fn nothing_names_a_host_or_a_path_of_one_machine() -> Result<()> {
    let host = Regex::new(r#"https?://([^/\s"'<>)`:]+)"#)?;
    let path = Regex::new(r#"(^|[\s"'=:(])/(root|home|work|Users)/"#)?;
    let mut wrong = Vec::new();
    for (file, text) in build_files()? {
        for (index, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", index + 1);
            // Rust code outside of tests may hold addresses as data.
            let reaches_out = !file.ends_with(".rs") || file.starts_with("tests/");
            for found in host.captures_iter(line).filter(|_| reaches_out) {
                let name = &found[1];
                let own = ["127.0.0.1", "localhost", "[", "{", "$", "%"].iter().any(|start| name.starts_with(start));
                // Names under .example are reserved for examples; one without a dot is a service of the compose file.
                if !own && name.contains('.') && !name.ends_with(".example") {
                    wrong.push(format!("{place} names the host {name}"));
                }
            }
            if path.is_match(line) {
                wrong.push(format!("{place} names a path of one machine: {}", line.trim()));
            }
        }
    }
    none(wrong);
    Ok(())
}

/// The Rust files under a folder of the checkout: path from the root, text.
fn rust_files(folder: &str) -> Result<Vec<(String, String)>> {
    let root = root();
    let folders = if folder.is_empty() { vec!["engine", "server", "udfs", "tests"] } else { vec![folder] };
    let mut files = Vec::new();
    for folder in folders {
        for path in files_below(&root.join(folder), "rs")? {
            let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(path)?));
        }
    }
    Ok(files)
}

/// Everything that builds, tests or packages Rondel.
fn build_files() -> Result<Vec<(String, String)>> {
    let root = root();
    let mut paths = vec![root.join("Makefile"), root.join(".ci/run"), root.join("Cargo.toml")];
    for folder in ["docker", "tests", "engine", "server", "udfs", "sql"] {
        for extension in ["rs", "toml", "sh", "py", "java", "xml", "yaml", "properties", "txt", "sql", "proto", "conf"]
        {
            paths.extend(files_below(&root.join(folder), extension)?);
        }
    }
    paths.extend([root.join("docker/Dockerfile")]);
    let mut files = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        files.push((name, text));
    }
    Ok(files)
}

/// The lines with code, numbered from 1, without their comments, up to the tests. A `//` inside a text counts as a
/// comment too: what follows it there is no code either.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text.lines().take_while(|line| line.trim() != "mod tests {");
    code.enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
}

/// Fails with all findings at once.
#[track_caller]
fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
