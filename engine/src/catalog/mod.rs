//! The catalog: names, what they stand for, and who uses whom; kept on disk.
//!
//! An *object* is a stream, view, materialized view, sink or continuous INSERT; all share one space of names. The
//! catalog knows definitions only: what runs is the business of `job/`.

mod object;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::sql::Dialect;
pub use object::{DesiredState, JobRecord, Object, ObjectKind};
use store::Store;

/// Epochs that are leased ahead in one write: seconds' worth, since epochs are milliseconds. Epochs begin behind it after
/// a restart, and `now()` with them.
const EPOCH_LEASE: u64 = 3_000;

/// The catalog; see the [module](self). All calls are short; those that change it return when the change is durable.
pub struct Catalog {
    state: Mutex<State>,
}

struct State {
    /// `None`: in memory only.
    store: Option<Store>,
    objects: BTreeMap<String, Object>,
    next_sequence: u64,
    next_job: u64,
    epoch_lease: u64,
    deployment: Option<Uuid>,
    /// Jobs that have committed, where there is no store that knows.
    committed: BTreeSet<Uuid>,
    /// The last identity that was given out, where identities are numbers.
    numbered: Option<u128>,
}

/// What a new object is made of; the catalog adds the identity.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, folded.
    pub name: String,
    /// The statement.
    pub sql: String,
    /// What it is written in.
    pub dialect: Dialect,
    /// What it reads from or writes to.
    pub uses: Vec<String>,
    /// Its schema's versions, or a table's definition.
    pub descriptor: Option<Vec<u8>>,
    /// Of the streams that its job reads, by which version of their schemas.
    pub schemas: BTreeMap<String, u64>,
    /// Whether it has a job.
    pub has_job: bool,
    /// Now, in microseconds since 1970.
    pub created_at_micros: i64,
}

impl Catalog {
    /// A catalog that is forgotten at exit.
    pub fn in_memory() -> Self {
        Self { state: Mutex::new(State::new(None, Vec::new())) }
    }

    /// A catalog in memory whose identities are the same in every run: what depends on their order does as well.
    #[cfg(test)]
    pub(crate) fn numbered() -> Self {
        let mut state = State::new(None, Vec::new());
        state.numbered = Some(0);
        Self { state: Mutex::new(state) }
    }

    /// The catalog of a data directory, made when it isn't there.
    pub fn open(directory: &Path) -> Result<Self> {
        let store = Store::open(directory)?;
        let objects = store.objects()?;
        let mut state = State::new(None, objects);
        state.next_job = store.number("next_job")?.unwrap_or(1).max(state.next_job);
        state.epoch_lease = store.number("epoch_lease")?.unwrap_or(0);
        state.store = Some(store);
        Ok(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while the lock was held can't have left the maps half changed: they change after the write.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All objects, in order of creation.
    pub fn objects(&self) -> Vec<Object> {
        let mut all: Vec<Object> = self.state().objects.values().cloned().collect();
        all.sort_by_key(|object| object.sequence);
        all
    }

    /// The object of a name.
    pub fn get(&self, name: &str) -> Option<Object> {
        self.state().objects.get(name).cloned()
    }

    /// The descriptor that was stored with an object. For a catalog in memory: none.
    pub fn descriptor(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        match &self.state().store {
            Some(store) => store.descriptor(id),
            None => Ok(None),
        }
    }

    /// An error when the name is taken.
    pub fn check_free(&self, name: &str) -> Result<()> {
        match self.get(name) {
            None => Ok(()),
            Some(object) => {
                Err(Error::new(ErrorKind::DuplicateObject, format!("{} '{name}' exists already", object.kind.word()))
                    .with_hint(format!("DROP {} {name} first, or choose another name", object.kind.sql())))
            }
        }
    }

    /// Adds an object; durable on return.
    pub fn create(&self, new: NewObject) -> Result<Object> {
        self.check_free(&new.name)?;
        let mut state = self.state();
        let job = new.has_job.then_some(JobRecord { id: state.next_job, desired: DesiredState::Running });
        let object = Object {
            id: state.new_id(),
            sequence: state.next_sequence,
            kind: new.kind,
            name: new.name,
            sql: new.sql,
            dialect: new.dialect,
            uses: new.uses,
            schemas: new.schemas,
            job,
            options: BTreeMap::new(),
            created_at_micros: new.created_at_micros,
        };
        let next_job = state.next_job + u64::from(new.has_job);
        if let Some(store) = &state.store {
            // The number first: a crash in between wastes a number, never gives one twice.
            store.put_number("next_job", next_job)?;
            store.put(&object, new.descriptor.as_deref())?;
        }
        state.next_job = next_job;
        state.next_sequence += 1;
        state.objects.insert(object.name.clone(), object.clone());
        Ok(object)
    }

    /// Notes the options of a job that were altered; durable on return.
    pub fn set_options(&self, name: &str, options: BTreeMap<String, Option<String>>) -> Result<()> {
        let mut state = self.state();
        let Some(mut object) = state.objects.get(name).cloned() else { return Err(unknown(name)) };
        object.options = options;
        if let Some(store) = &state.store {
            store.put(&object, None)?;
        }
        state.objects.insert(object.name.clone(), object);
        Ok(())
    }

    /// Notes what the user wants of a job; durable on return.
    pub fn set_desired(&self, name: &str, desired: DesiredState) -> Result<()> {
        let mut state = self.state();
        let Some(mut object) = state.objects.get(name).cloned() else { return Err(unknown(name)) };
        let Some(job) = &mut object.job else {
            return Err(Error::new(ErrorKind::InvalidState, format!("{} '{name}' has no job", object.kind.word())));
        };
        job.desired = desired;
        if let Some(store) = &state.store {
            store.put(&object, None)?;
        }
        state.objects.insert(object.name.clone(), object);
        Ok(())
    }

    /// Gives an object another name, statement and descriptor; durable on return.
    pub fn alter(&self, name: &str, new_name: &str, sql: &str, descriptor: &[u8]) -> Result<()> {
        if new_name != name {
            self.check_free(new_name)?;
        }
        let mut state = self.state();
        let Some(mut object) = state.objects.get(name).cloned() else { return Err(unknown(name)) };
        object.name = new_name.to_owned();
        object.sql = sql.to_owned();
        if let Some(store) = &state.store {
            store.put(&object, Some(descriptor))?;
        }
        state.objects.remove(name);
        state.objects.insert(object.name.clone(), object);
        Ok(())
    }

    /// Keeps another schema of an object; durable on return.
    pub fn set_descriptor(&self, name: &str, descriptor: &[u8]) -> Result<()> {
        let state = self.state();
        let Some(object) = state.objects.get(name) else { return Err(unknown(name)) };
        match &state.store {
            Some(store) => store.put(object, Some(descriptor)),
            None => Ok(()),
        }
    }

    /// Everything that uses `name`, directly or through others, users before what they use (the order to drop in).
    pub fn dependants(&self, name: &str) -> Vec<Object> {
        let state = self.state();
        let mut names = std::collections::BTreeSet::from([name.to_owned()]);
        let mut found: Vec<Object> = Vec::new();
        let mut in_order: Vec<&Object> = state.objects.values().collect();
        in_order.sort_by_key(|object| object.sequence);
        for object in in_order {
            if object.uses.iter().any(|used| names.contains(used)) && names.insert(object.name.clone()) {
                found.push(object.clone());
            }
        }
        found.reverse();
        found
    }

    /// Removes objects together; durable on return.
    pub fn remove(&self, names: &[String]) -> Result<()> {
        let mut state = self.state();
        let ids: Vec<Uuid> = names.iter().filter_map(|name| state.objects.get(name)).map(|object| object.id).collect();
        if let Some(store) = &state.store {
            store.remove(&ids)?;
        }
        for name in names {
            state.objects.remove(name);
        }
        Ok(())
    }

    /// Epochs up to this number may be used: leased durably, so that none is used again after a crash.
    /// `epoch` is about to be used; the answer is at least that.
    pub fn lease_epochs(&self, epoch: u64) -> Result<u64> {
        let mut state = self.state();
        if epoch >= state.epoch_lease {
            let lease = epoch + EPOCH_LEASE;
            if let Some(store) = &state.store {
                store.put_number("epoch_lease", lease)?;
            }
            state.epoch_lease = lease;
        }
        Ok(state.epoch_lease)
    }

    /// The identity of the data directory; of a catalog in memory, of this run.
    pub fn deployment(&self) -> Result<Uuid> {
        let mut state = self.state();
        if let Some(id) = state.deployment {
            return Ok(id);
        }
        let id = match &state.store {
            Some(store) => store.deployment()?,
            None => state.new_id(),
        };
        state.deployment = Some(id);
        Ok(id)
    }

    /// Whether a job is known to have committed output to another system.
    pub fn has_committed(&self, job: Uuid) -> Result<bool> {
        let state = self.state();
        match &state.store {
            Some(store) => Ok(store.number(&committed(job))?.is_some()),
            None => Ok(state.committed.contains(&job)),
        }
    }

    /// A job has committed output to another system: from now on that system must know of it. Durable on return.
    pub fn note_committed(&self, job: Uuid) -> Result<()> {
        let mut state = self.state();
        let Some(store) = &state.store else {
            state.committed.insert(job);
            return Ok(());
        };
        if store.number(&committed(job))?.is_none() {
            store.put_number(&committed(job), 1)?;
        }
        Ok(())
    }

    /// The first epoch that no earlier run of the server can have used.
    pub fn first_free_epoch(&self) -> u64 {
        self.state().epoch_lease + 1
    }
}

impl State {
    fn new(store: Option<Store>, objects: Vec<Object>) -> Self {
        let next_sequence = objects.iter().map(|object| object.sequence + 1).max().unwrap_or(0);
        let next_job = objects.iter().filter_map(|object| object.job).map(|job| job.id + 1).max().unwrap_or(1);
        let objects = objects.into_iter().map(|object| (object.name.clone(), object)).collect();
        let (committed, numbered) = (BTreeSet::new(), None);
        Self { store, objects, next_sequence, next_job, epoch_lease: 0, deployment: None, committed, numbered }
    }

    fn new_id(&mut self) -> Uuid {
        match &mut self.numbered {
            None => Uuid::new_v4(),
            Some(last) => {
                *last += 1;
                Uuid::from_u128(*last)
            }
        }
    }
}

/// Where it stands that a job has committed.
fn committed(job: Uuid) -> String {
    format!("committed-{job}")
}

/// The error for a name that nothing has.
pub fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedObject, format!("'{name}' does not exist"))
        .with_hint("SHOW STREAMS, SHOW VIEWS and SHOW SINKS list what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: ObjectKind, name: &str, uses: &[&str]) -> NewObject {
        NewObject {
            kind,
            name: name.into(),
            sql: format!("-- {name}"),
            dialect: Dialect::default(),
            uses: uses.iter().map(|name| (*name).to_owned()).collect(),
            descriptor: (kind == ObjectKind::Stream).then(|| vec![1, 2, 3]),
            schemas: BTreeMap::new(),
            has_job: matches!(kind, ObjectKind::MaterializedView | ObjectKind::Sink),
            created_at_micros: 7,
        }
    }

    #[test]
    fn survives_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let lease = {
            let catalog = Catalog::open(directory.path()).unwrap();
            let stream = catalog.create(new(ObjectKind::Stream, "s", &[])).unwrap();
            assert_eq!(catalog.descriptor(stream.id).unwrap(), Some(vec![1, 2, 3]));
            catalog.create(new(ObjectKind::MaterializedView, "v", &["s"])).unwrap();
            catalog.create(new(ObjectKind::Sink, "k", &["v"])).unwrap();
            catalog.set_desired("k", DesiredState::Stopped).unwrap();
            catalog.remove(&["v".into()]).unwrap();
            catalog.lease_epochs(1_000).unwrap()
        };
        let catalog = Catalog::open(directory.path()).unwrap();
        let names: Vec<String> = catalog.objects().into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["s", "k"]);
        assert_eq!(catalog.get("k").unwrap().job, Some(JobRecord { id: 2, desired: DesiredState::Stopped }));
        assert!(catalog.first_free_epoch() > lease.max(1_000));
        // The dropped view's job number is not given again.
        let next = catalog.create(new(ObjectKind::MaterializedView, "w", &["s"])).unwrap();
        assert_eq!(next.job.unwrap().id, 3);
        assert_eq!(catalog.descriptor(next.id).unwrap(), None);
    }

    #[test]
    fn a_second_server_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Catalog::open(directory.path()).unwrap();
        let error = Catalog::open(directory.path()).err().unwrap();
        assert!(error.message().contains("in use by another rondel"), "{error}");
    }

    #[test]
    fn dependants_come_users_first() {
        let catalog = Catalog::in_memory();
        catalog.create(new(ObjectKind::Stream, "s", &[])).unwrap();
        catalog.create(new(ObjectKind::MaterializedView, "a", &["s"])).unwrap();
        catalog.create(new(ObjectKind::MaterializedView, "b", &["a"])).unwrap();
        catalog.create(new(ObjectKind::MaterializedView, "other", &[])).unwrap();
        catalog.create(new(ObjectKind::Sink, "k", &["b", "a"])).unwrap();
        let names: Vec<String> = catalog.dependants("s").into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["k", "b", "a"]);
        assert!(catalog.dependants("k").is_empty());
        let error = catalog.create(new(ObjectKind::Sink, "a", &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateObject);
    }
}
