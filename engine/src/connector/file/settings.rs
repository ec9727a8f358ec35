//! The options of the file sink.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::connector::definition::Delivery;
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options, check_known};
use crate::error::{Error, Result};

/// What a sink does that doesn't say.
const DELIVERY: &str = "exactly_once";

/// The options of a sink with `connector = 'file'`.
pub const SINK: OptionTable = OptionTable {
    title: "file sink",
    options: &[
        OptionSpec {
            name: "path",
            kind: OptionKind::Text,
            default: None,
            required: true,
            doc: "The folder to write to, as a path of the server's machine or as 'file:///…'; made if it is not there.",
        },
        OptionSpec {
            name: "format",
            kind: OptionKind::Choice(&["json", "parquet"]),
            default: None,
            required: true,
            doc: "JSON lines (one object a row, NULL as null), or Parquet.",
        },
        OptionSpec {
            name: "compression",
            kind: OptionKind::Choice(&["zstd", "snappy", "none"]),
            default: Some("zstd"),
            required: false,
            doc: "How Parquet's columns are compressed.",
        },
        OptionSpec {
            name: "file_size_mb",
            kind: OptionKind::Integer { min: 1, max: 1_048_576 },
            default: Some("128"),
            required: false,
            doc: "A file of about so many megabytes is full, and another is begun.",
        },
        OptionSpec {
            name: "changelog",
            kind: OptionKind::Choice(&["append", "weights"]),
            default: Some("append"),
            required: false,
            doc: "How changes are written: 'append' for results that only grow; 'weights' adds a column _weight, +n for rows that come and -n for rows that go, so that the sum over all files is the result.",
        },
        OptionSpec {
            name: "delivery",
            kind: OptionKind::Choice(&["exactly_once", "at_least_once"]),
            default: Some(DELIVERY),
            required: false,
            doc: "'exactly_once' shows files when the checkpoint that holds their rows is chosen; a server without checkpoints refuses it, and takes 'at_least_once' where nothing is said. 'at_least_once' shows them when they are full or as old as publish_interval, and writes again what came after the last checkpoint when the job restarts.",
        },
        OptionSpec {
            name: "publish_interval",
            kind: OptionKind::Duration,
            default: Some("1m"),
            required: false,
            doc: "After how long delivery = 'at_least_once' shows a file that is not full.",
        },
    ],
    prefixes: &[],
};

/// The options of a stream with `connector = 'file'`.
pub const SOURCE: OptionTable = OptionTable {
    title: "file source",
    options: &[
        OptionSpec {
            name: "path",
            kind: OptionKind::Text,
            default: None,
            required: true,
            doc: "A file of the server's machine, or a folder, all of whose files are read and those of the folders below; a path or 'file:///…'.",
        },
        OptionSpec {
            name: "format",
            kind: OptionKind::Choice(&["json", "parquet"]),
            default: None,
            required: true,
            doc: "JSON lines (files that end in .json, .jsonl or .ndjson), whose columns are declared; or Parquet (.parquet), whose columns are those of the first file if none are declared.",
        },
        OptionSpec {
            name: "on_error",
            kind: OptionKind::Choice(&["fail", "skip"]),
            default: Some("fail"),
            required: false,
            doc: "What a line that is no row does: stop the job, or be skipped and counted.",
        },
    ],
    prefixes: &[],
};

/// What files of rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceFormat {
    Json,
    Parquet,
}

impl SourceFormat {
    /// The endings of the files' names.
    pub(super) fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["json", "jsonl", "ndjson"],
            Self::Parquet => &["parquet"],
        }
    }
}

/// The options of a stream of files, checked.
#[derive(Debug, Clone)]
pub(super) struct FileSourceOptions {
    pub(super) path: PathBuf,
    pub(super) format: SourceFormat,
    /// Whether lines that are no rows are skipped.
    pub(super) skips: bool,
}

impl FileSourceOptions {
    /// Reads and checks the values of `WITH`. Looks at no disk.
    pub(super) fn parse(values: &BTreeMap<String, String>) -> Result<Self> {
        check_known(values, &[&SOURCE])?;
        let options = Options::new(&SOURCE, values);
        let format = match format_of(&options, ("on_error", "json"))? {
            "parquet" => SourceFormat::Parquet,
            _ => SourceFormat::Json,
        };
        let skips = options.choice("on_error")? == Some("skip");
        Ok(Self { path: folder(options.required("path")?)?, format, skips })
    }
}

/// What the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFormat {
    Json,
    Parquet(Compression),
}

/// How Parquet's columns are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Zstd,
    Snappy,
    None,
}

impl FileFormat {
    /// The ending of the files' names.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Parquet(_) => "parquet",
        }
    }
}

/// The options of a file sink, checked.
#[derive(Debug, Clone)]
pub(super) struct FileSinkOptions {
    pub(super) path: PathBuf,
    pub(super) format: FileFormat,
    pub(super) file_bytes: usize,
    /// Whether rows carry their weights.
    pub(super) weights: bool,
    pub(super) delivery: Delivery,
    /// Whether the job that it was opened for shows its files with its checkpoints.
    pub(super) exactly_once: bool,
    pub(super) publish_interval: Duration,
}

impl FileSinkOptions {
    /// Reads and checks the values of `WITH`. Looks at no disk.
    pub(super) fn parse(values: &BTreeMap<String, String>) -> Result<Self> {
        check_known(values, &[&SINK])?;
        let options = Options::new(&SINK, values);
        let compression = match options.choice("compression")? {
            Some("snappy") => Compression::Snappy,
            Some("none") => Compression::None,
            _ => Compression::Zstd,
        };
        let format = match format_of(&options, ("compression", "parquet"))? {
            "parquet" => FileFormat::Parquet(compression),
            _ => FileFormat::Json,
        };
        let delivery = match options.choice("delivery")? {
            Some("exactly_once") if options.is_given("delivery") => Delivery::ExactlyOnce,
            Some("exactly_once") => Delivery::ExactlyOnceWithCheckpoints,
            _ => Delivery::AtLeastOnce,
        };
        if delivery != Delivery::AtLeastOnce && values.contains_key("publish_interval") {
            return Err(Error::invalid("the option \"publish_interval\" goes with delivery = 'at_least_once' only")
                .with_hint("What is written exactly once is shown with the job's checkpoints."));
        }
        let megabytes = options.integer("file_size_mb")?.and_then(|size| usize::try_from(size).ok()).unwrap_or(128);
        Ok(Self {
            path: folder(options.required("path")?)?,
            format,
            file_bytes: megabytes << 20,
            weights: options.choice("changelog")? == Some("weights"),
            delivery,
            exactly_once: delivery != Delivery::AtLeastOnce,
            publish_interval: options.duration("publish_interval")?.unwrap_or(Duration::from_secs(60)),
        })
    }
}

/// The format, which has to be said; an option that belongs to one format only is refused with others.
fn format_of(options: &Options<'_>, (option, whose): (&str, &str)) -> Result<&'static str> {
    options.required("format")?;
    let format = options.choice("format")?.unwrap_or_default();
    if format != whose && options.is_given(option) {
        return Err(Error::invalid(format!("the option \"{option}\" goes with format = '{whose}' only")));
    }
    Ok(format)
}

/// The folder that a path or URL names.
fn folder(text: &str) -> Result<PathBuf> {
    let wrong = |what: &str| {
        Error::invalid(format!("the option \"path\" cannot be '{text}': {what}"))
            .with_hint("Write a folder of the server's machine: '/data/demand' or 'file:///data/demand'.")
    };
    match text.split_once("://") {
        None => Ok(PathBuf::from(text)),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(wrong("a file URL has three slashes and an absolute path"));
            }
            if path.contains('%') {
                return Err(wrong("a file URL is taken as it is, without %-escapes"));
            }
            Ok(PathBuf::from(path))
        }
        Some((scheme, _)) => Err(wrong(&format!("files are those of local folders, not of {scheme}://"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<FileSinkOptions> {
        let mut values = BTreeMap::from([("format".to_owned(), "json".to_owned())]);
        values.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        FileSinkOptions::parse(&values)
    }

    #[test]
    fn paths_and_urls_are_folders() {
        for (text, path) in
            [("/data/x", "/data/x"), ("x/y", "x/y"), ("file:///data/x", "/data/x"), ("FILE://localhost/x", "/x")]
        {
            assert_eq!(parse(&[("path", text)]).unwrap().path, PathBuf::from(path), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (pairs, words) in [
            (&[("path", "s3://bucket/x")][..], "not of s3://"),
            (&[("path", "file://x/y")], "three slashes"),
            (&[("path", "file:///a%20b")], "%-escapes"),
            (&[("path", "/x"), ("format", "csv")], "allowed is 'json', 'parquet'"),
            (&[("path", "/x"), ("compression", "zstd")], "goes with format = 'parquet'"),
            (&[("path", "/x"), ("delivery", "exactly_once"), ("publish_interval", "1s")], "'at_least_once' only"),
            (&[("path", "/x"), ("publish_interval", "1s")], "'at_least_once' only"),
            (&[("path", "/x"), ("file_size_mb", "0")], "from 1"),
            (&[("path", "/x"), ("topic", "t")], "no option \"topic\""),
            (&[], "needs the option \"path\""),
        ] {
            let error = parse(pairs).unwrap_err();
            assert!(error.message().contains(words), "{words}: {error}");
        }
    }
}
