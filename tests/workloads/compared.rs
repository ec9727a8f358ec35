//! Views, and the snapshots that they are compared with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use rondel_engine::engine::{Engine, EngineSettings, Outcome};
use rondel_engine::job::{JobState, JobView};
use rondel_engine::plan::Functions;
use rondel_engine::session::Session;
use rondel_engine::time::SystemClock;
use rondel_tests::{Result, root};

use crate::oracle::multiset::Multiset;

const PATIENCE: Duration = Duration::from_secs(120);

/// An engine, and queries that are views in it.
pub(crate) struct Compared {
    engine: Arc<Engine>,
    session: Session,
    /// By name: the query of the view `view_<name>`.
    queries: BTreeMap<String, String>,
}

impl Compared {
    pub(crate) fn new(workers: usize) -> Result<Self> {
        let settings = EngineSettings { workers, ..EngineSettings::default() };
        let engine = Engine::open(settings, Functions::builtin(), Arc::new(SystemClock))?;
        let session = engine.session();
        Ok(Self { engine, session, queries: BTreeMap::new() })
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Runs statements; answers the rows of the last.
    pub(crate) async fn run(&self, text: &str) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for statement in self.session.parse(text)? {
            batches.clear();
            if let Outcome::Rows(rows) = self.session.execute(&statement, &[]).await? {
                batches = rows.try_collect::<Vec<_>>().await?;
            }
        }
        Ok(batches)
    }

    /// Runs a file of `sql/`, with some of its words replaced.
    pub(crate) async fn run_file(&self, name: &str, replaced: &[(&str, &str)]) -> Result<()> {
        let mut text = std::fs::read_to_string(root().join("sql").join(name))?;
        for (old, new) in replaced {
            assert!(text.contains(old), "sql/{name} has no {old}");
            text = text.replace(old, new);
        }
        self.run(&text).await.map_err(|error| format!("sql/{name}: {error}"))?;
        Ok(())
    }

    /// Makes a view of each query. All that are refused are told at once.
    pub(crate) async fn watch(&mut self, queries: BTreeMap<String, String>) -> Result<()> {
        let mut refused = Vec::new();
        for (name, query) in &queries {
            if let Err(error) = self.run(&format!("CREATE MATERIALIZED VIEW view_{name} AS\n{query}")).await {
                refused.push(format!("{name}: {error}"));
            }
        }
        assert!(refused.is_empty(), "{} queries are refused:\n{}", refused.len(), refused.join("\n"));
        self.queries.extend(queries);
        Ok(())
    }

    /// Waits until all of the jobs are so.
    pub(crate) async fn wait_for(&self, what: &str, done: impl Fn(&JobView) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let jobs = self.engine.jobs();
            if let Some(failed) = jobs.iter().find(|job| job.state == JobState::Failed) {
                return Err(format!("{failed:?}").into());
            }
            let Some(late) = jobs.iter().find(|job| !done(job)) else { return Ok(()) };
            assert!(start.elapsed() < PATIENCE, "{what}: {late:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Compares every view with its query's answer, when everything acknowledged is visible. Answers how many rows each
    /// has.
    pub(crate) async fn check(&self, moment: &str) -> Result<BTreeMap<String, usize>> {
        self.run("FLUSH").await?;
        let (mut rows, mut wrong) = (BTreeMap::new(), Vec::new());
        for (name, query) in &self.queries {
            match self.difference(name, query).await {
                Ok((None, count)) => {
                    rows.insert(name.clone(), count);
                }
                Ok((Some(difference), count)) => wrong.push(format!("{name} ({count} rows):\n{difference}")),
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
        assert!(wrong.is_empty(), "{moment}: {} views differ:\n{}", wrong.len(), wrong.join("\n"));
        Ok(rows)
    }

    async fn difference(&self, name: &str, query: &str) -> Result<(Option<String>, usize)> {
        let view = multiset(&self.run(&format!("SELECT * FROM view_{name}")).await.map_err(|e| format!("view: {e}"))?);
        let batch = multiset(&self.run(query).await.map_err(|error| format!("snapshot: {error}"))?);
        Ok((view.difference(&batch, 1.0), batch.len()))
    }

    pub(crate) async fn close(self) -> Result<()> {
        let engine = self.engine;
        Ok(tokio::task::spawn_blocking(move || engine.shutdown()).await?)
    }
}

fn multiset(batches: &[RecordBatch]) -> Multiset {
    let mut set = Multiset::default();
    for batch in batches {
        set.add(batch, |_| 1);
    }
    set
}

/// The query of a file of `sql/`: what stands behind its `CREATE … AS`.
pub(super) fn query_of(file: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join("sql").join(file))?;
    let (_, query) = text.split_once(" AS\n").ok_or_else(|| format!("sql/{file} creates nothing"))?;
    Ok(query.trim_end().trim_end_matches(';').to_owned())
}
