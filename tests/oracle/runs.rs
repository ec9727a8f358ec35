//! Runs many cases, on several threads, and says what came of them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::case::Case;
use super::coverage::Coverage;

/// What became of a case.
pub(crate) enum Verdict {
    /// The sums were equal: how many rows the answer had, and what the case showed.
    Equal { rows: usize, met: BTreeSet<&'static str> },
    /// The statement is not one that runs continuously, or fails as a batch as well: why.
    Refused(String),
}

/// What became of all cases.
#[derive(Default)]
struct Tally {
    equal: u64,
    empty: u64,
    refused: BTreeMap<String, Vec<u64>>,
    failures: BTreeSet<u64>,
    coverage: Coverage,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// How many cases are run.
pub(crate) fn cases(default: u64) -> u64 {
    setting("RONDEL_ORACLE_CASES", default)
}

/// After so many cases a run says how far it is.
const STRETCH: u64 = 10_000;

/// As many failures end a run.
const MOST_FAILURES: usize = 10;

/// So many cases must have met every operator and every construct.
const MANY: u64 = 5_000;

/// What is run.
pub(crate) struct Kind {
    /// How many cases, if nothing else is asked for.
    pub(crate) cases: u64,
    /// Makes the case of a seed.
    pub(crate) random: fn(u64) -> Case,
    /// What no case of this kind can have; `None`: of the others nothing must be met either.
    pub(crate) never: Option<&'static [&'static str]>,
}

/// Runs `RONDEL_ORACLE_CASES` cases from `RONDEL_ORACLE_SEED` on `RONDEL_ORACLE_THREADS` threads, and reports all that
/// failed. Each thread makes a world of its own, and judges one case after the other in it.
pub(crate) fn run_cases<W>(
    kind: &Kind,
    world: impl Fn() -> W + Sync,
    verdict: impl Fn(&W, &Case) -> Result<Verdict, String> + Sync,
) {
    let (cases, first) = (cases(kind.cases), setting("RONDEL_ORACLE_SEED", 1));
    let threads = setting("RONDEL_ORACLE_THREADS", 2).clamp(1, cases.max(1));
    let (next, stop, tally) = (AtomicU64::new(first), AtomicBool::new(false), Mutex::new(Tally::default()));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let world = world();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + cases {
                        break;
                    }
                    let case = Cell::new(None);
                    let judged = catch_unwind(AssertUnwindSafe(|| {
                        let random = (kind.random)(seed);
                        let judged = verdict(&world, &random);
                        case.set(Some(random));
                        judged
                    }));
                    let judged = judged.unwrap_or_else(|_| Err("a panic (see above)".to_owned()));
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    if seed > first && (seed - first).is_multiple_of(STRETCH) {
                        println!("{} cases in {:.0} s", seed - first, begin.elapsed().as_secs_f64());
                    }
                    tally.add(seed, || case.take().unwrap_or_else(|| (kind.random)(seed)), judged, cases == 1);
                    stop.fetch_or(tally.failures.len() >= MOST_FAILURES, Ordering::Relaxed);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.report(cases, first, kind, begin.elapsed().as_secs_f64());
}

impl Tally {
    fn add(&mut self, seed: u64, case: impl FnOnce() -> Case, judged: Result<Verdict, String>, alone: bool) {
        match judged {
            Ok(Verdict::Equal { rows, met }) => {
                self.equal += 1;
                match rows {
                    0 => self.empty += 1,
                    _ => self.coverage.count(&met),
                }
            }
            Ok(Verdict::Refused(why)) => self.refused.entry(same_but_for_names(&why)).or_default().push(seed),
            Err(what) => {
                let case = case();
                let more = if alone { case.in_full() } else { String::new() };
                // At once: whoever runs many may not wait for the end.
                println!("{}{more}", case.failure(&what));
                self.failures.insert(seed);
            }
        }
    }

    fn report(&self, cases: u64, first: u64, kind: &Kind, seconds: f64) {
        let Self { equal, empty, refused, failures, coverage } = self;
        let turned_away: usize = refused.values().map(Vec::len).sum();
        println!(
            "oracle: {cases} cases from seed {first} in {seconds:.0} s: {equal} equal ({empty} of them empty), {turned_away} refused, {} wrong",
            failures.len()
        );
        for (why, seeds) in refused {
            let statement = (kind.random)(seeds[0]).statement.sql;
            println!("  {} refused, seed {} first: {why}\n    {statement}", seeds.len(), seeds[0]);
        }
        if *equal >= 100 {
            println!("{}", coverage.table());
        }
        assert!(failures.is_empty(), "{} cases failed: seeds {failures:?}", failures.len());
        if cases >= 100 {
            assert!(equal * 10 >= cases * 8, "only {equal} of {cases} statements could be run");
            assert!(empty * 4 <= *equal, "{empty} of {equal} answers are empty: they show little");
        }
        if let Some(never) = kind.never
            && cases >= MANY
        {
            let missing: Vec<&str> = coverage.missing().into_iter().filter(|name| !never.contains(name)).collect();
            assert!(missing.is_empty(), "no case has met {missing:?}");
        }
    }
}

/// A reason without the numbers in it, which are those of names.
fn same_but_for_names(why: &str) -> String {
    let mut text = String::new();
    for letter in why.chars() {
        match letter.is_ascii_digit() {
            true if text.ends_with('#') => {}
            true => text.push('#'),
            false => text.push(letter),
        }
    }
    text.chars().take(110).collect()
}
