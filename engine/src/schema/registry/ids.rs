//! Schemas by the id that a record carries.
//!
//! A worker that meets an id for the first time does not wait: it is told that the schema is on its way, and woken when
//! that is there. What a registry said is kept in the data directory as well, for when it can't be reached.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use prost::Message as _;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::confluent::Confluent;
use super::http::runtime;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::kept::{Content, Kept, SchemaVersion};

/// How long a registry that can't be reached is left alone.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An id that the registry does not have is asked for again after so long: it may be registered meanwhile.
const MISSING: Duration = Duration::from_secs(10);

/// Ids that are remembered.
const KNOWN_MAX: usize = 10_000;

/// What to call when something has changed.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// What is known of an id.
#[derive(Clone)]
pub enum Known {
    /// What it stands for.
    Schema(Arc<Content>),
    /// It is being asked for; the words say what stands in the way, if something does.
    OnItsWay(Option<String>),
    /// The registry does not have it, or what it has can't be used.
    Missing(String),
}

/// Schemas of one registry.
pub struct SchemaIds {
    registry: Confluent,
    folder: Option<Folder>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is known, and since when.
    known: HashMap<u32, (Known, Instant)>,
    /// Of readers that may be gone.
    bells: Vec<Weak<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for SchemaIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SchemaIds({})", self.registry.shown())
    }
}

impl SchemaIds {
    /// `folder` is where the server keeps what registries say.
    pub(crate) fn new(registry: Confluent, folder: Option<&Path>) -> Arc<Self> {
        let folder = folder.map(|folder| Folder::of(folder, &registry.shown()));
        Arc::new(Self { registry, folder, state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry, for people.
    pub fn shown(&self) -> String {
        self.registry.shown()
    }

    /// Calls `bell` whenever an id becomes known, or what stands in the way changes, as long as somebody holds it.
    pub fn ring(&self, bell: &Bell) {
        let mut state = self.state();
        state.bells.retain(|bell| bell.strong_count() > 0);
        state.bells.push(Arc::downgrade(bell));
    }

    /// What an id stands for. The first question for an id begins to ask the registry.
    pub fn get(self: &Arc<Self>, id: u32) -> Known {
        let mut state = self.state();
        if let Some((known, since)) = state.known.get(&id)
            && !(matches!(known, Known::Missing(_)) && since.elapsed() > MISSING)
        {
            return known.clone();
        }
        if state.known.len() >= KNOWN_MAX {
            // Garbage in records must not fill the memory; what is asked for stays, or it would be asked for twice.
            state.known.retain(|_, (known, _)| matches!(known, Known::OnItsWay(_)));
        }
        let asking = Known::OnItsWay(None);
        state.known.insert(id, (asking.clone(), Instant::now()));
        drop(state);
        match runtime() {
            Ok(runtime) => {
                runtime.spawn(ask(Arc::downgrade(self), id));
                asking
            }
            Err(error) => Known::Missing(error.message().to_owned()),
        }
    }

    /// An id that is known already.
    pub fn put(&self, id: u32, content: Arc<Content>) {
        self.tell(id, Known::Schema(content));
    }

    fn tell(&self, id: u32, known: Known) {
        let bells = {
            let mut state = self.state();
            state.known.insert(id, (known, Instant::now()));
            state.bells.clone()
        };
        bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell());
    }

    /// An id that the registry is asked for, about what `of` names. When it can't be reached the id is the one of before,
    /// if there was one.
    pub(crate) fn remembered(&self, of: &[&str], ask: impl FnOnce(&Confluent) -> Result<u32>) -> Result<u32> {
        let name = format!("registered-{:016x}.json", hash(of));
        let before: Option<Registration> = self.folder.as_ref().and_then(|folder| folder.read(&name));
        let answer = match before {
            Some(_) => ask(&self.registry.hastily()),
            None => ask(&self.registry),
        };
        match (answer, before) {
            (Ok(id), _) => {
                if let Some(folder) = &self.folder {
                    folder.write(&name, &Registration { id })?;
                }
                Ok(id)
            }
            (Err(error), Some(before)) if error.kind() == ErrorKind::External => {
                tracing::warn!(id = before.id, "a schema's id is the one of before: {error}");
                Ok(before.id)
            }
            (Err(error), _) => Err(error),
        }
    }
}

/// Asks until there is an answer, or nobody wants one any more.
async fn ask(ids: Weak<SchemaIds>, id: u32) {
    let mut pause = PAUSE;
    loop {
        let Some(strong) = ids.upgrade() else { return };
        let answer = strong.registry.by_id(id).await;
        match answer {
            Ok(found) => {
                if let Some(folder) = &strong.folder
                    && let Err(error) = folder.keep(id, &found.content)
                {
                    tracing::warn!(id, "a schema could not be kept: {error}");
                }
                return strong.tell(id, Known::Schema(Arc::new(found.content)));
            }
            Err(error) if error.kind() == ErrorKind::External => {
                if let Some(content) = strong.folder.as_ref().and_then(|folder| folder.kept(id)) {
                    tracing::warn!(id, "a schema is the one of before: {error}");
                    return strong.tell(id, Known::Schema(Arc::new(content)));
                }
                strong.tell(id, Known::OnItsWay(Some(error.message().to_owned())));
            }
            Err(error) => return strong.tell(id, Known::Missing(error.message().to_owned())),
        }
        drop(strong);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[derive(Serialize, Deserialize)]
struct Registration {
    id: u32,
}

fn hash(texts: &[&str]) -> u64 {
    xxh3_64(texts.join("\0").as_bytes())
}

/// What one registry has said, as files.
struct Folder(PathBuf);

impl Folder {
    fn of(folder: &Path, registry: &str) -> Self {
        Self(folder.join(format!("{:016x}", hash(&[registry]))))
    }

    fn keep(&self, id: u32, content: &Content) -> Result<()> {
        let version = SchemaVersion { number: 1, id: Some(id), origin: String::new(), content: content.clone() };
        self.put(&format!("{id}.schema"), &Kept::new(version).to_bytes())
    }

    fn kept(&self, id: u32) -> Option<Content> {
        let bytes = std::fs::read(self.0.join(format!("{id}.schema"))).ok()?;
        let kept = Kept::from_bytes(&bytes, "a registry").ok()?;
        Some(kept.current().content.clone())
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))?;
        self.put(name, &bytes)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.0.join(name)).ok()?).ok()
    }

    /// Whole or not at all: a file is written beside its place.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let target = self.0.join(name);
        let beside = self.0.join(format!("{name}.{}.new", std::process::id()));
        std::fs::create_dir_all(&self.0)
            .and_then(|()| std::fs::write(&beside, bytes))
            .and_then(|()| std::fs::File::open(&beside)?.sync_all())
            .and_then(|()| std::fs::rename(&beside, &target))
            .map_err(|error| {
                Error::new(ErrorKind::External, format!("the file {} can't be written: {error}", target.display()))
            })
    }
}

/// A protobuf file as it is registered: its descriptor in base64, as the official clients do.
pub(crate) fn encoded_file(file: &prost_types::FileDescriptorProto) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(file.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_kept_by_registry() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::of(root.path(), "http://a");
        assert!(folder.kept(7).is_none());
        let content = Content::Avro("\"long\"".into());
        folder.keep(7, &content).unwrap();
        assert_eq!(folder.kept(7), Some(content));
        assert!(Folder::of(root.path(), "http://b").kept(7).is_none());
        folder.write("r.json", &Registration { id: 3 }).unwrap();
        assert_eq!(folder.read::<Registration>("r.json").unwrap().id, 3);
    }
}
