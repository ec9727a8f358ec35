//! Streams whose schemas come from elsewhere and change there.
//!
//! REFRESH asks for a newer version; queries that are made from then on see it. A job goes on reading by the version that
//! it was made for, also after a restart, unless its rows would be wrong: then it stops.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::define::definition;
use crate::catalog::{Object, ObjectKind, unknown};
use crate::connector::definition::StreamDefinition;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Live, LiveObjects};
use crate::plan::flow::{FlowOp, ScanKind};
use crate::plan::{ContinuousPlan, Planner, Relation};
use crate::sql::{CreateStream, Statement};

impl Engine {
    /// Where what schema registries say is kept.
    pub(crate) fn schemas_folder(&self) -> Option<PathBuf> {
        self.settings.data_dir.as_ref().map(|directory| directory.join("schemas"))
    }

    /// A stream as the planner knows it.
    pub(super) fn stream_relation(
        &self,
        stream: &CreateStream,
        definition: &dyn StreamDefinition,
    ) -> Result<Arc<Relation>> {
        let schema = definition.schema();
        let watermark = match &stream.watermark {
            Some(clause) => Some(self.planner.validate_watermark(&schema, clause)?),
            None => None,
        };
        Ok(Arc::new(match definition.upserts() {
            None => Relation::stream(&stream.name, schema, watermark),
            Some(_) if watermark.is_some() => {
                return Err(Error::not_supported(format!(
                    "the stream '{}' is a table, whose rows change at any time: it has no watermark",
                    stream.name
                ))
                .with_hint("leave WATERMARK FOR out, or read the topic with changelog = 'append'"));
            }
            Some(upserts) => Relation::upserts(&stream.name, schema, &upserts)?,
        }))
    }

    fn stream(&self, name: &str) -> Result<(Object, CreateStream, Arc<dyn StreamDefinition>)> {
        let object = self.catalog.get(name).ok_or_else(|| unknown(name))?;
        match (definition(&object)?, self.live.get(name)) {
            (Statement::CreateStream(stream), Some(Live::Stream { definition, .. })) => {
                Ok((object, stream, definition))
            }
            (Statement::CreateStream(_), Some(Live::Broken { error, .. })) => Err(error),
            _ => {
                Err(Error::new(ErrorKind::InvalidState, format!("'{name}' is a {}, not a stream", object.kind.word())))
            }
        }
    }

    /// By which versions a job reads that is made now and uses these.
    pub(super) fn versions_of(&self, uses: &[String]) -> BTreeMap<String, u64> {
        let version = |name: &String| {
            let Some(Live::Stream { definition, .. }) = self.live.get(name) else { return None };
            let kept = definition.evolving()?.kept()?;
            Some((name.clone(), kept.current().number))
        };
        uses.iter().filter_map(version).collect()
    }

    /// What there is, with streams as of these versions of their schemas.
    pub(super) fn as_of(&self, versions: &BTreeMap<String, u64>) -> Result<Arc<LiveObjects>> {
        let mut old = Vec::new();
        for (name, version) in versions {
            let Some(Live::Stream { definition, .. }) = self.live.get(name) else { continue };
            let Some(evolving) = definition.evolving() else { continue };
            if evolving.kept().is_some_and(|kept| kept.current().number == *version) {
                continue;
            }
            let definition = evolving.at(*version)?;
            let (_, stream, _) = self.stream(name)?;
            let relation = self.stream_relation(&stream, &*definition)?;
            old.push((name.clone(), Live::Stream { relation, definition }));
        }
        if old.is_empty() {
            return Ok(Arc::clone(&self.live));
        }
        let live = LiveObjects::default();
        self.live.all().into_iter().chain(old).for_each(|(name, object)| live.insert(&name, object));
        Ok(Arc::new(live))
    }

    /// The planner that sees streams as of these versions.
    pub(super) fn planner_as_of(&self, versions: &BTreeMap<String, u64>) -> Result<Planner> {
        let live = self.as_of(versions)?;
        Ok(self.planner.over(|_| live))
    }

    /// Refuses a job whose rows would be wrong, since what it reads is written by a version that breaks its own.
    pub(super) fn check_versions(&self, object: &Object, plan: &ContinuousPlan) -> Result<()> {
        for (stream, version) in &object.schemas {
            let Some(Live::Stream { definition, .. }) = self.live.get(stream) else { continue };
            let breaking = self.breaking(&*definition, stream, *version, plan)?;
            if !breaking.is_empty() {
                return Err(broken(stream, *version, &definition, &breaking));
            }
        }
        Ok(())
    }

    /// The changes from a version to the current one that make what a plan reads of the stream wrong.
    fn breaking(
        &self,
        definition: &dyn StreamDefinition,
        stream: &str,
        version: u64,
        plan: &ContinuousPlan,
    ) -> Result<Vec<String>> {
        let Some(evolving) = definition.evolving() else { return Ok(Vec::new()) };
        let Some(current) = evolving.kept().map(|kept| kept.current().number).filter(|current| *current != version)
        else {
            return Ok(Vec::new());
        };
        let schema = evolving.at(version)?.schema();
        let mut read: BTreeSet<&str> = BTreeSet::new();
        for node in &plan.flow.nodes {
            let FlowOp::Scan { relation, kind: ScanKind::Stream, projection, .. } = &node.op else { continue };
            if relation == stream {
                read.extend(
                    projection.iter().filter_map(|column| schema.fields().get(*column)).map(|f| f.name().as_str()),
                );
            }
        }
        let changes = evolving.changes(version, current)?;
        let breaking = changes.into_iter().filter(|change| change.breaks && read.contains(change.column.as_str()));
        Ok(breaking.map(|change| change.what).collect())
    }

    /// The versions of a stream's schema that jobs read by, with the jobs.
    pub(super) fn versions_in_use(&self, stream: &str) -> BTreeMap<u64, Vec<String>> {
        let mut used: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for object in self.catalog.objects() {
            if let Some(version) = object.schemas.get(stream) {
                used.entry(*version).or_default().push(object.name);
            }
        }
        used
    }

    /// Streams that look for newer versions by themselves, and how often.
    pub(crate) fn refreshing(&self) -> Vec<(String, Duration)> {
        let of = |(name, live): (String, Live)| match live {
            Live::Stream { definition, .. } => Some((name, definition.evolving()?.refresh_interval()?)),
            _ => None,
        };
        self.live.all().into_iter().filter_map(of).collect()
    }

    /// `REFRESH STREAM`: takes the newest version of a stream's schema. Answers what the user should know; nothing if there
    /// is no newer one.
    pub(crate) fn refresh_stream(&self, name: &str) -> Result<Vec<String>> {
        let (_, stream, before) = self.stream(name)?;
        let Some((evolving, known)) =
            before.evolving().and_then(|evolving| Some((evolving, evolving.kept()?.current().number)))
        else {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!("the columns of stream '{name}' are declared with it, and there is nothing to refresh"),
            )
            .with_hint("its schema has to come from a descriptor or a registry"));
        };
        let used = self.versions_in_use(name).into_keys().collect();
        // The registry may take its time: nobody is kept waiting for it but who asked.
        let newer = evolving.newest(&used).map_err(|error| error.context(format!("stream '{name}'")))?;
        let Some(newer) = newer else { return Ok(Vec::new()) };
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, _, now) = self.stream(name)?;
        if !Arc::ptr_eq(&now, &before) {
            // Somebody else has refreshed it meanwhile.
            return Ok(Vec::new());
        }
        let (version, what) = match newer.evolving().and_then(|evolving| Some((evolving, evolving.kept()?))) {
            Some((evolving, kept)) => {
                let version = kept.current().number;
                let changes = evolving.changes(known, version)?;
                (version, changes.into_iter().map(|change| change.what).collect::<Vec<_>>())
            }
            None => return Err(Error::internal("a newer schema has no version")),
        };
        let relation = self.stream_relation(&stream, &*newer).map_err(|error| {
            error.context(format!("stream '{name}' cannot take version {version} of its schema and stays at {known}"))
        })?;
        let kept = newer.descriptor().unwrap_or_default();
        self.catalog.set_descriptor(name, &kept)?;
        self.live.insert(name, Live::Stream { relation, definition: Arc::clone(&newer) });
        let what = if what.is_empty() { "nothing that it reads has changed".to_owned() } else { what.join("; ") };
        let mut notices = vec![format!("stream '{name}' has version {version} of its schema, after {known}: {what}")];
        for object in self.catalog.dependants(name).into_iter().rev() {
            notices.extend(self.told(&object, name, &newer));
        }
        Ok(notices)
    }

    /// What becomes of an object that reads a stream which has another version now.
    fn told(&self, object: &Object, stream: &str, newer: &Arc<dyn StreamDefinition>) -> Option<String> {
        if object.kind == ObjectKind::View {
            let made = self.columns_of(object);
            return match made {
                Ok(_) => self.renew_view(object).err().map(|error| error.to_string()),
                Err(error) => Some(format!("view '{}' can't be read any more: {error}", object.name)),
            };
        }
        let version = *object.schemas.get(stream)?;
        let status = self.live.get(&object.name)?.job().cloned()?;
        let broke = self.plan_again(object).and_then(|plan| match plan {
            Some(plan) => self.breaking(&**newer, stream, version, &plan),
            None => Ok(Vec::new()),
        });
        match broke {
            Ok(breaking) if breaking.is_empty() => {
                Some(format!("job '{}' goes on reading by version {version}", object.name))
            }
            Ok(breaking) => {
                let error = broken(stream, version, newer, &breaking);
                let notice = format!("job '{}' stops: {error}", object.name);
                if status.is_built() {
                    status.fail_job(error);
                }
                Some(notice)
            }
            Err(error) => Some(format!("what becomes of job '{}' can't be said: {error}", object.name)),
        }
    }
}

fn broken(stream: &str, version: u64, current: &Arc<dyn StreamDefinition>, breaking: &[String]) -> Error {
    let current = current.evolving().and_then(|evolving| evolving.kept()).map_or(0, |kept| kept.current().number);
    Error::new(
        ErrorKind::InvalidState,
        format!(
            "stream '{stream}' has version {current} of its schema, in which {}, and rows read by version {version} \
             would be wrong",
            breaking.join("; ")
        ),
    )
    .with_hint("drop it and create it anew: then it reads by the new version")
}
