//! The progress record: which checkpoint of a job is the last one whose output is seen.
//!
//! Its key is `<deployment>/<job>`, its value JSON, so that any consumer can show it. Source positions are not in it: they
//! are in the checkpoint's manifest, which is durable before, and may be larger than a record.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::connector::two_phase::{CheckpointName, Writer};
use crate::error::{Error, ErrorKind, Result};

/// The form of the value; another number is another form.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Value {
    version: u32,
    epoch: u64,
    generation: u64,
    /// Sixteen hexadecimal digits: JSON's readers don't all keep 64 bits.
    manifest_hash: String,
}

/// The key of a job's record.
pub(super) fn key(writer: &Writer) -> Vec<u8> {
    format!("{}/{}", writer.deployment, writer.job).into_bytes()
}

/// The job's partition of `partitions`. Jobs of a deployment that have consecutive numbers have partitions of their own, as
/// long as there are enough. Two that share one are right all the same: each looks for its own key, and waits until it has
/// passed what it knew to be the end; but while one's transaction hangs (its server has died between progress record and
/// commit), the other can't start before that is ended by its next run, or by its time-out.
pub(super) fn partition(writer: &Writer, partitions: i32) -> i32 {
    let first = xxh3_64(writer.deployment.as_bytes());
    (first.wrapping_add(writer.number) % partitions.max(1) as u64) as i32
}

/// A checkpoint as the record's value.
pub(super) fn encode(checkpoint: &CheckpointName) -> Vec<u8> {
    let CheckpointName { epoch, generation, manifest_hash } = checkpoint;
    format!(
        r#"{{"version":{VERSION},"epoch":{epoch},"generation":{generation},"manifest_hash":"{manifest_hash:016x}"}}"#
    )
    .into_bytes()
}

/// The checkpoint that a value names.
pub(super) fn decode(value: &[u8]) -> Result<CheckpointName> {
    let strange = |what: &str| {
        Error::new(ErrorKind::Data, format!("a progress record cannot be read: {what}"))
            .with_detail(String::from_utf8_lossy(value).into_owned())
    };
    let Value { version, epoch, generation, manifest_hash } =
        serde_json::from_slice(value).map_err(|error| strange(&error.to_string()))?;
    if version != VERSION {
        return Err(strange(&format!("its form has number {version}, and this server knows {VERSION}")));
    }
    let manifest_hash = u64::from_str_radix(&manifest_hash, 16).map_err(|_| strange("its hash is no number"))?;
    Ok(CheckpointName { epoch, generation, manifest_hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back() {
        let name = CheckpointName { epoch: 1_795_000_000_123, generation: 7, manifest_hash: u64::MAX - 1 };
        let value = encode(&name);
        assert_eq!(
            String::from_utf8_lossy(&value),
            r#"{"version":1,"epoch":1795000000123,"generation":7,"manifest_hash":"fffffffffffffffe"}"#
        );
        assert_eq!(decode(&value).unwrap(), name);
    }

    #[test]
    fn what_is_no_progress_is_said() {
        for (value, words) in [
            ("", "EOF"),
            (r#"{"version":2,"epoch":1,"generation":1,"manifest_hash":"0"}"#, "number 2"),
            (r#"{"version":1,"epoch":1,"generation":1,"manifest_hash":"x"}"#, "hash"),
        ] {
            let error = decode(value.as_bytes()).unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
    }
}
