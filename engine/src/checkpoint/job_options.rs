//! What a job says about its own checkpoints, in `WITH (…)` and by `ALTER JOB … SET`; the rest is the server's.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CheckpointSettings;
use crate::connector::options::{OptionKind, OptionSpec, OptionTable, Options, check_known};
use crate::error::{Error, Result};

/// The options of a job.
pub static JOB_OPTIONS: OptionTable = OptionTable {
    title: "Job",
    options: &[
        option(
            "checkpoint_interval",
            OptionKind::Duration,
            "From the begin of one checkpoint to the begin of the next.",
        ),
        option(
            "checkpoint_pause",
            OptionKind::Duration,
            "At least so long from the end of one to the begin of the next.",
        ),
        option(
            "checkpoint_timeout",
            OptionKind::Duration,
            "What takes longer is given up, and tried again with the next.",
        ),
        option(
            "checkpoints_retained",
            OptionKind::Integer { min: 1, max: 1_000_000 },
            "So many checkpoints of the job are kept,",
        ),
        option("checkpoints_retained_for", OptionKind::Duration, "and those that are younger."),
    ],
    prefixes: &[],
};

const fn option(name: &'static str, kind: OptionKind, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind, default: None, required: false, doc }
}

/// The shortest interval and time-out: shorter ones are mistakes of the unit.
const SHORTEST: Duration = Duration::from_millis(10);

/// Whether an option is one of a job's own.
pub(crate) fn is_job_option(name: &str) -> bool {
    JOB_OPTIONS.spec(name).is_some()
}

impl CheckpointSettings {
    /// These settings, but for what a job says otherwise.
    pub(crate) fn with(&self, own: &BTreeMap<String, String>) -> Result<Self> {
        check_known(own, &[&JOB_OPTIONS])?;
        let options = Options::new(&JOB_OPTIONS, own);
        let long_enough = |name: &str| match options.duration(name)? {
            Some(short) if short < SHORTEST => Err(Error::invalid(format!(
                "the option \"{name}\" cannot be '{}': the least is {SHORTEST:?}",
                own.get(name).map_or("", String::as_str)
            ))),
            length => Ok(length),
        };
        let retained = options.integer("checkpoints_retained")?.and_then(|count| usize::try_from(count).ok());
        Ok(Self {
            url: self.url.clone(),
            interval: long_enough("checkpoint_interval")?.unwrap_or(self.interval),
            minimum_pause: options.duration("checkpoint_pause")?.unwrap_or(self.minimum_pause),
            timeout: long_enough("checkpoint_timeout")?.unwrap_or(self.timeout),
            retained: retained.unwrap_or(self.retained),
            retained_for: options.duration("checkpoints_retained_for")?.unwrap_or(self.retained_for),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_what_it_has_otherwise() {
        let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let server = CheckpointSettings::default();
        assert_eq!(server.with(&own(&[])).unwrap(), server);
        let job = server.with(&own(&[("checkpoint_interval", "2 s"), ("checkpoints_retained", "7")])).unwrap();
        assert_eq!((job.interval, job.retained), (Duration::from_secs(2), 7));
        assert_eq!(job.timeout, server.timeout);
        for (name, value, words) in [
            ("checkpoint_interval", "1us", "the least is 10ms"),
            ("checkpoint_interval", "soon", "allowed is a length of time"),
            ("checkpoints_retained", "0", "allowed is a whole number from 1"),
            ("checkpoint_intervall", "1s", "there is no option \"checkpoint_intervall\""),
        ] {
            let error = server.with(&own(&[(name, value)])).unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
    }
}
