//! A SELECT over several views reads those that are connected at one epoch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

use super::blocking;
use crate::dataflow::{CommonEpoch, JobId, View};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, JobStatus, Live};
use crate::plan::{RelationKind, RelationSource};

/// How often it is looked whether a view has come to the others' epoch, and how often at most.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: u32 = 30_000;
/// After so many looks those that are behind are asked to move: nothing may have connected them after all.
const PATIENT_LOOKS: u32 = 500;

type Rows = HashMap<String, Vec<RecordBatch>>;
/// A view by its name, and its job.
type Named = (String, Arc<View>, Arc<JobStatus>);

/// The rows of the views that a plan reads and that are connected: of all of them at one epoch. Others are not among them.
pub(super) async fn read(engine: &Arc<Engine>, plan: &LogicalPlan) -> Result<Rows> {
    let mut rows = Rows::new();
    let named = named(plan)?;
    if named.len() < 2 {
        return Ok(rows);
    }
    let mut groups: BTreeMap<String, Vec<Named>> = BTreeMap::new();
    let leaders = leaders(engine);
    for name in named {
        if let (Some(leader), Some(Live::MaterializedView { view, job, .. })) =
            (leaders.get(&name), engine.live.get(&name))
        {
            groups.entry(leader.clone()).or_default().push((name, view, job));
        }
    }
    for group in groups.into_values().filter(|group| group.len() > 1) {
        read_group(engine, &group, &mut rows).await?;
    }
    Ok(rows)
}

async fn read_group(engine: &Arc<Engine>, group: &[Named], rows: &mut Rows) -> Result<()> {
    let views: Vec<Arc<View>> = group.iter().map(|(_, view, _)| Arc::clone(view)).collect();
    let common = CommonEpoch::of(&views)?;
    let mut looks = 0;
    loop {
        let behind = common.behind();
        if behind.is_empty() {
            break;
        }
        // One that has ended meanwhile is read as it last was, or it is said why not.
        if group.iter().any(|(_, _, job)| job.view().state != JobState::Running) {
            return Ok(());
        }
        if looks == LOOKS {
            let names: Vec<&str> = group.iter().map(|(name, ..)| name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("the views {} have not come to one epoch in {:?}", names.join(", "), LOOK * looks),
            )
            .with_hint("SHOW JOBS says what their jobs wait for; read the views one by one, or try again"));
        }
        looks += 1;
        if looks % PATIENT_LOOKS == 0 {
            let jobs: Vec<JobId> = behind.iter().map(|place| JobId(group[*place].2.id)).collect();
            let engine = Arc::clone(engine);
            blocking(move || jobs.into_iter().try_for_each(|job| engine.pool.step(job).map(|_| ()))).await?;
        }
        tokio::time::sleep(LOOK).await;
    }
    for ((name, ..), snapshot) in group.iter().zip(common.take()?) {
        rows.insert(name.clone(), snapshot.batches);
    }
    Ok(())
}

/// The materialized views that a plan reads.
pub(super) fn named(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = scan.source.downcast_ref::<RelationSource>()
            && source.relation().kind == RelationKind::MaterializedView
        {
            names.insert(source.relation().name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// Of each view whose job runs, the first of those that are connected with it by running jobs: they are stepped together.
fn leaders(engine: &Engine) -> BTreeMap<String, String> {
    let running = |name: &str| engine.live.get(name).and_then(|live| live.job().cloned());
    let running = |name: &str| running(name).is_some_and(|job| job.view().state == JobState::Running);
    let is_view = |name: &String| matches!(engine.live.get(name), Some(Live::MaterializedView { .. })) && running(name);
    let mut leaders: BTreeMap<String, String> = BTreeMap::new();
    for object in engine.catalog.objects().into_iter().filter(|object| running(&object.name)) {
        let connected: Vec<String> = object.uses.into_iter().chain([object.name]).filter(is_view).collect();
        for name in &connected {
            leaders.entry(name.clone()).or_insert_with(|| name.clone());
        }
        let old: BTreeSet<String> = connected.iter().filter_map(|name| leaders.get(name).cloned()).collect();
        if let Some(first) = old.first().cloned() {
            leaders.values_mut().filter(|leader| old.contains(*leader)).for_each(|leader| leader.clone_from(&first));
        }
    }
    leaders
}
