//! A checkpoint's manifest: all that it consists of, as JSON that a person can read. `docs/checkpoints.md` describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, ErrorKind, Result};
use crate::operator::change::Below;
use crate::time::Epoch;

/// The version of the format that is written; older ones are read.
pub const FORMAT: u32 = 4;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format: [`FORMAT`].
    pub format: u32,
    /// The version of Rondel that wrote it.
    pub rondel: String,
    /// The data directory's identity.
    pub deployment: Uuid,
    /// The job's identity.
    pub job: Uuid,
    /// The job's name then.
    pub name: String,
    /// The run of the job that took it.
    pub generation: u64,
    /// The epoch at whose end it was taken.
    pub epoch: Epoch,
    /// What `now()` was in it, in microseconds since 1970.
    pub now_micros: i64,
    /// When it was taken.
    pub taken_at_micros: i64,
    /// On how many workers.
    pub workers: usize,
    /// The statement that made the job.
    pub sql: String,
    /// The job's plan, as EXPLAIN has it: a job with another plan cannot go on from here.
    pub plan: Vec<String>,
    /// The views that the job reads, by the name of their scan.
    pub reads: BTreeMap<String, Uuid>,
    /// The job's watermarks, by number, in microseconds since 1970.
    pub watermarks: BTreeMap<u32, i64>,
    /// Where sources stood: by scan, of each partition the place of the next row.
    pub positions: BTreeMap<String, BTreeMap<String, String>>,
    /// What operators and the view remember.
    pub files: Vec<StateFile>,
    /// Rows of files that are gone by their time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<Expired>,
    /// All inputs of the job have ended and all is said: it is the same at every later epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// What an exactly-once sink has prepared, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_token: Option<String>,
}

/// A file of a checkpoint. Checkpoints share files that are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// The operator whose state it is.
    pub operator: String,
    /// Which part of it.
    pub part: String,
    /// Its path below the job's folder.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// `xxh3_128` of its bytes.
    pub hash: String,
    /// The least and the greatest key group of its rows; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<[u8; 2]>,
    /// The files of a part are layers: those of a greater number are younger.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub layer: u64,
    /// The columns of the part that say which row a row is: rows of older layers with equal values in them are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<usize>,
    /// The last column is a number of times: rows of all layers that are equal in the others are added up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_sum: bool,
    /// Its rows say what is gone, and are not there themselves: they have `_group` and the columns of `keys`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Where rows go by their time: the greatest in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// How many of its columns are the part's, the first ones; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<usize>,
}

impl StateFile {
    /// Its rows are there, whatever other files hold, until they go by their time.
    pub(super) fn only_come(&self) -> bool {
        self.keys.is_empty() && !self.is_sum && !self.gone
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Rows of a part with less than `below` in a column are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// The operator whose state it is.
    pub operator: String,
    /// Which part of it.
    pub part: String,
    /// The column of the part.
    pub column: usize,
    /// The least value that stays.
    pub below: i64,
}

impl Expired {
    /// As operators know it.
    pub(crate) fn below(&self) -> Below {
        Below { column: self.column, at: self.below }
    }
}

impl Manifest {
    /// The bytes that are stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::internal(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads what [`Self::to_bytes`] wrote, in this version or an earlier one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
            rondel: String,
        }
        let damaged = |error: serde_json::Error| {
            Error::new(ErrorKind::Data, format!("the checkpoint's manifest is damaged: {error}"))
        };
        let version: Version = serde_json::from_slice(bytes).map_err(damaged)?;
        if version.format > FORMAT {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!(
                    "the checkpoint was written by Rondel {} in format {}, and this version, {}, reads formats up to {FORMAT}",
                    version.rondel,
                    version.format,
                    env!("CARGO_PKG_VERSION")
                ),
            )
            .with_hint("start the version that wrote it, or a newer one"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The hash by which other systems remember it.
    pub fn hash(bytes: &[u8]) -> u64 {
        xxh3_64(bytes)
    }

    /// Its file's name: sorted as epochs and then generations are.
    pub fn file_name(epoch: Epoch, generation: u64) -> String {
        format!("{epoch:020}-{generation:010}.json")
    }

    /// What the sink has prepared.
    pub fn token(&self) -> Result<Option<Vec<u8>>> {
        let Some(text) = &self.sink_token else { return Ok(None) };
        let digits: Option<Vec<u8>> = (0..text.len())
            .step_by(2)
            .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        digits.map(Some).ok_or_else(|| Error::new(ErrorKind::External, "the manifest's sink token is damaged"))
    }

    /// A token as the manifest holds it.
    pub fn written_token(token: &[u8]) -> String {
        token.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// An error that says what has changed, if a job with this plan cannot go on from here.
    pub fn check_plan(&self, plan: &[String]) -> Result<()> {
        if self.plan == plan {
            return Ok(());
        }
        let longest = self.plan.len().max(plan.len());
        let differs = (0..longest).find(|line| self.plan.get(*line) != plan.get(*line)).unwrap_or(0);
        let line = |of: &[String]| of.get(differs).map_or("nothing".to_owned(), |line| format!("\"{}\"", line.trim()));
        Err(Error::new(
            ErrorKind::InvalidState,
            format!(
                "the checkpoint of epoch {} was taken with another plan: where it had {}, the statement now has {}",
                self.epoch,
                line(&self.plan),
                line(plan)
            ),
        )
        .with_hint(format!("it was written by Rondel {}: start that version, or drop and create the job", self.rondel)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> StateFile {
        StateFile {
            operator: "aggregate-0c".to_owned(),
            part: "groups".to_owned(),
            path: "state/0000000003-00ff.arrow".to_owned(),
            rows: 12,
            bytes: 2_048,
            hash: "00ff".to_owned(),
            groups: Some([0, 15]),
            layer: 0,
            keys: Vec::new(),
            is_sum: false,
            gone: false,
            until: None,
            columns: None,
        }
    }

    fn manifest() -> Manifest {
        let changes = StateFile {
            layer: 1_764_349_200_123,
            keys: vec![1, 2],
            gone: true,
            until: Some(1_764_349_190_000_000),
            ..file()
        };
        Manifest {
            format: FORMAT,
            rondel: "0.1.0".to_owned(),
            deployment: Uuid::from_u128(1),
            job: Uuid::from_u128(2),
            name: "demand".to_owned(),
            generation: 3,
            epoch: 1_764_349_200_123,
            now_micros: 1_764_349_200_123_000,
            taken_at_micros: 1_764_349_200_130_456,
            workers: 2,
            sql: "CREATE MATERIALIZED VIEW demand AS SELECT zone, count(*) FROM bookings GROUP BY zone".to_owned(),
            plan: vec!["Aggregate: groups zone; count(*)".to_owned(), "  -> Scan bookings: zone".to_owned()],
            reads: BTreeMap::from([("scan-0b".to_owned(), Uuid::from_u128(4))]),
            watermarks: BTreeMap::from([(0, 1_764_349_190_000_000)]),
            positions: BTreeMap::from([(
                "scan-0a".to_owned(),
                BTreeMap::from([("bookings/0".to_owned(), "0@1042".to_owned())]),
            )]),
            files: vec![StateFile { groups: None, ..file() }, changes, StateFile { columns: Some(4), ..file() }],
            expired: vec![Expired {
                operator: "aggregate-0c".to_owned(),
                part: "groups".to_owned(),
                column: 2,
                below: 1_764_349_180_000_000,
            }],
            ended: false,
            sink_token: Some(Manifest::written_token(&[1, 0xab])),
        }
    }

    /// The format is a promise: what is written today is read by every later version.
    #[test]
    fn the_format_stands() {
        let written = String::from_utf8(manifest().to_bytes().unwrap()).unwrap();
        assert_eq!(written, include_str!("manifest/format-4.json"));
        let read = Manifest::from_bytes(written.as_bytes()).unwrap();
        assert_eq!(read, manifest());
        assert_eq!(read.token().unwrap().unwrap(), [1, 0xab]);
        // Before checkpoints kept what operators had put to disk.
        let files = manifest().files[..2].to_vec();
        let third = Manifest::from_bytes(include_bytes!("manifest/format-3.json")).unwrap();
        assert_eq!(third, Manifest { format: 3, files: files.clone(), ..manifest() });
        // Before windows of CUMULATE had a part of their own for what they have taken up.
        let second = Manifest::from_bytes(include_bytes!("manifest/format-2.json")).unwrap();
        assert_eq!(second, Manifest { format: 2, files, ..manifest() });
        // Before there were layers.
        let first = Manifest::from_bytes(include_bytes!("manifest/format-1.json")).unwrap();
        let files = vec![StateFile { groups: None, ..file() }];
        assert_eq!(first, Manifest { format: 1, files, expired: Vec::new(), ..manifest() });
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_changed() {
        let newer = String::from_utf8(manifest().to_bytes().unwrap())
            .unwrap()
            .replace(&format!("\"format\": {FORMAT}"), "\"format\": 9");
        let error = Manifest::from_bytes(newer.as_bytes()).unwrap_err();
        assert!(error.message().contains("in format 9, and this version"), "{error}");
        let error = Manifest::from_bytes(b"{\"format\": 1").unwrap_err();
        assert!(error.message().contains("damaged"), "{error}");
        let mut plan = manifest().plan;
        manifest().check_plan(&plan).unwrap();
        plan[1] = "  -> Scan bookings: zone, price".to_owned();
        let error = manifest().check_plan(&plan).unwrap_err();
        assert_eq!(
            error.message(),
            "the checkpoint of epoch 1764349200123 was taken with another plan: where it had \"-> Scan bookings: zone\", \
             the statement now has \"-> Scan bookings: zone, price\""
        );
        plan.truncate(1);
        assert!(manifest().check_plan(&plan).unwrap_err().message().ends_with("the statement now has nothing"));
    }
}
