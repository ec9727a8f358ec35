//! What a run took.

use std::time::{Duration, Instant};

use rondel_engine::engine::{Engine, Outcome};
use rondel_engine::job::{JobState, JobView};
use rondel_engine::session::Session;
use rondel_engine::{Error, ErrorKind, Result};

use crate::process;

/// How often a running job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// No run takes longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// One run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) wall: f64,
    /// Processor seconds of the whole process, to a hundredth.
    pub(super) cpu: f64,
    /// The most memory that was resident during it, in bytes.
    pub(super) peak: f64,
}

/// Measures from [`Meter::start`] to [`Meter::stop`].
pub(super) struct Meter {
    start: Instant,
    cpu: f64,
}

impl Meter {
    pub(super) fn start() -> Result<Self> {
        process::forget_peak();
        Ok(Self { cpu: cpu_seconds()?, start: Instant::now() })
    }

    pub(super) fn stop(self) -> Result<Taken> {
        let wall = self.start.elapsed().as_secs_f64();
        let peak = process::memory().map_or(0.0, |memory| memory.peak);
        // Less than what can be counted is counted as that.
        Ok(Taken { wall, cpu: (cpu_seconds()? - self.cpu).max(0.01), peak })
    }
}

fn cpu_seconds() -> Result<f64> {
    let usage = process::usage().ok_or_else(|| {
        Error::not_supported("processor time is read from /proc/self/stat, which this system does not have")
    })?;
    Ok(usage.cpu_seconds)
}

/// What several runs took.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Taken>);

impl Runs {
    pub(super) fn add(&mut self, taken: Taken) {
        self.0.push(taken);
    }

    fn median(&self, of: impl Fn(&Taken) -> f64) -> f64 {
        median(self.0.iter().map(of))
    }

    /// How much of what the `other` runs did these did in the same time: by processor time, and by the clock with the least and the
    /// most of any turn. Each run is compared to the other of its turn, and the median counts: a machine that is slower for a while is
    /// so for both.
    pub(super) fn of(&self, other: &Self) -> (f64, f64, (f64, f64)) {
        let turns = || other.0.iter().zip(&self.0);
        let walls = || turns().map(|(other, this)| other.wall / this.wall);
        let range = (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max));
        (median(turns().map(|(other, this)| other.cpu / this.cpu)), median(walls()), range)
    }

    /// The median and the range of events per second of processor time, in millions.
    pub(super) fn per_cpu_second(&self, events: u64) -> (f64, f64, f64) {
        let rate = |taken: &Taken| events as f64 / taken.cpu / 1e6;
        let rates = || self.0.iter().map(rate);
        (self.median(rate), rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max))
    }

    /// A row of the printed table.
    pub(super) fn row(&self, name: &str, events: u64) -> String {
        let (rate, least, greatest) = self.per_cpu_second(events);
        let (wall, cpu) = (self.median(|taken| taken.wall), self.median(|taken| taken.cpu));
        let peak = self.0.iter().map(|taken| taken.peak).fold(0.0, f64::max) / f64::from(1 << 20);
        let wall_rate = events as f64 / wall / 1e6;
        format!("{name:14} {wall:7.2} {wall_rate:9.2} {cpu:7.2} {rate:12.2} {least:7.2}–{greatest:<7.2} {peak:8.0}")
    }

    /// What stands above the rows.
    pub(super) fn heading() -> String {
        format!(
            "{:14} {:>7} {:>9} {:>7} {:>12} {:>15} {:>8}",
            "", "wall s", "M/s", "CPU s", "M/CPU-second", "(all runs)", "peak MiB"
        )
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs a text's statements.
pub(super) async fn execute(session: &Session, text: &str) -> Result<()> {
    for statement in session.parse(text)? {
        match session.execute(&statement, &[]).await? {
            Outcome::Done { .. } => {}
            Outcome::Rows(_) | Outcome::Changes { .. } => {
                return Err(Error::invalid("a benchmark's statement has rows"));
            }
        }
    }
    Ok(())
}

/// Waits until the one job of an engine is `done`.
pub(super) async fn wait_for(engine: &Engine, done: impl Fn(&JobView) -> bool) -> Result<JobView> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let Some(job) = engine.jobs().pop() else { return Err(Error::internal("the job is gone")) };
        if job.state == JobState::Failed {
            return Err(job.error.unwrap_or_else(|| Error::internal("the job failed and does not say why")));
        }
        if done(&job) {
            return Ok(job);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Error::new(ErrorKind::External, format!("the job did not end in {PATIENCE:?}")))
}

/// Stops an engine's threads and waits for them.
pub(super) async fn close(engine: std::sync::Arc<Engine>) -> Result<()> {
    let closed = tokio::task::spawn_blocking(move || engine.shutdown()).await;
    closed.map_err(|error| Error::internal(format!("the engine did not close: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts() {
        let mut runs = Runs::default();
        for cpu in [4.0, 1.0, 2.0] {
            runs.add(Taken { wall: 1.0, cpu, peak: cpu * f64::from(1 << 20) });
        }
        assert_eq!(runs.per_cpu_second(8_000_000), (4.0, 2.0, 8.0));
        assert!(runs.row("q0", 8_000_000).ends_with("       4"), "{}", runs.row("q0", 8_000_000));
    }

    #[test]
    fn runs_are_compared_turn_by_turn() {
        let runs = |times: [f64; 3]| {
            Runs(times.map(|time| Taken { wall: time, cpu: 2.0 * time, peak: 0.0 }).into_iter().collect())
        };
        // Slower by a tenth in most turns, on a machine that is slow in the second.
        let (cpu, wall, (least, most)) = runs([11.0, 22.0, 12.5]).of(&runs([10.0, 20.0, 10.0]));
        let near = |value: f64, wanted: f64| assert!((value - wanted).abs() < 1e-9, "{value} is not {wanted}");
        near(cpu, 10.0 / 11.0);
        near(wall, 10.0 / 11.0);
        near(least, 0.8);
        near(most, 10.0 / 11.0);
    }
}
