//! Descriptors: where a message's definition comes from.
//!
//! A stream names its definition by an option: `file:PATH`, or a bare path. The file is either a
//! `FileDescriptorSet` as `protoc --include_imports --descriptor_set_out` writes it, or one or several `.proto`
//! files or folders of them (comma separated), compiled here. Imports are looked up in the include paths, then in the
//! folders that were named, then in those of the files themselves; Google's well-known types are built in. Definitions from elsewhere are a set of bytes
//! ([`Descriptors::from_set`]).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, MessageDescriptor};
use prost_types::FileDescriptorSet;

use super::{editions, nearest};
use crate::error::{Error, ErrorKind, Result};

const HINT: &str = "write descriptor = 'file:PATH' with a FileDescriptorSet (protoc --include_imports --descriptor_set_out), .proto files or folders of them";

/// So many files and folders a folder of `.proto` files may have in it: one that is named by mistake (`/`) would be walked
/// for hours.
const MOST_ENTRIES: usize = 20_000;

/// The definitions of one descriptor option.
#[derive(Debug, Clone)]
pub struct Descriptors {
    pool: DescriptorPool,
    /// What the user wrote, for error messages.
    origin: String,
}

impl Descriptors {
    /// Reads what `option` names. `includes` are folders in which `.proto` imports are looked up first.
    pub fn load(option: &str, includes: &[PathBuf]) -> Result<Self> {
        let option = option.trim();
        let paths = option.strip_prefix("file:").unwrap_or(option);
        let paths: Vec<&Path> = paths.split(',').map(str::trim).filter(|p| !p.is_empty()).map(Path::new).collect();
        if paths.is_empty() {
            return Err(Error::invalid("the descriptor option names no file").with_hint(HINT));
        }
        let mut folders = includes.to_vec();
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() {
                folders.push(path.to_owned());
                files.extend(sources_below(path, MOST_ENTRIES)?);
            } else if path.is_file() {
                files.push(path.to_owned());
            } else {
                let message = format!("the descriptor file {} does not exist", path.display());
                return Err(Error::invalid(message).with_hint(HINT));
            }
        }
        let pool = if files.iter().all(|path| is_source(path)) {
            compile(&files, folders)?
        } else if let [set] = &files[..] {
            read_set(set)?
        } else {
            let message = format!("the descriptor option '{option}' names several files, and not all are .proto files");
            return Err(Error::invalid(message).with_hint(HINT));
        };
        Ok(Self { pool, origin: option.to_owned() })
    }

    /// The definitions of an encoded `FileDescriptorSet` from `origin`.
    pub fn from_set(bytes: &[u8], origin: &str) -> Result<Self> {
        Ok(Self { pool: pool_of_set(bytes, origin)?, origin: origin.to_owned() })
    }

    /// Definitions that are already in memory; `origin` names them in error messages.
    pub fn from_pool(pool: DescriptorPool, origin: impl Into<String>) -> Self {
        Self { pool, origin: origin.into() }
    }

    /// The message of that full name (`acme.Booking`), or of its name in Java (`com.acme.Booking`).
    pub fn message(&self, name: &str) -> Result<MessageDescriptor> {
        let name = name.trim().trim_start_matches('.');
        let named = self.pool.get_message_by_name(name).or_else(|| self.message_in_java(name));
        if let Some(message) = named.filter(|message| !message.is_map_entry()) {
            return Ok(message);
        }
        let what = if self.pool.get_enum_by_name(name).is_some() { "an enum, not a message" } else { "no message" };
        let message = format!("{name} is {what} of {}", self.origin);
        let names = self.message_names();
        let near = nearest(name, names.iter().map(String::as_str));
        let hint = if near.is_empty() {
            let shown: Vec<&str> = names.iter().map(String::as_str).take(10).collect();
            match shown.len() {
                0 => "the descriptor defines no messages".to_owned(),
                n if n < names.len() => format!("its messages are {}, and {} more", shown.join(", "), names.len() - n),
                _ => format!("its messages are {}", shown.join(", ")),
            }
        } else {
            format!("did you mean {}?", near.join(" or "))
        };
        Err(Error::new(ErrorKind::InvalidDefinition, message).with_hint(hint))
    }

    /// The message whose file's `java_package`, with what stands behind its own package, is that name.
    fn message_in_java(&self, name: &str) -> Option<MessageDescriptor> {
        let name = name.replace('$', ".");
        self.pool.all_messages().find(|message| {
            let file = message.parent_file();
            let Some(java) = file.file_descriptor_proto().options.as_ref().and_then(|o| o.java_package.clone()) else {
                return false;
            };
            let behind = message.full_name().strip_prefix(message.package_name()).unwrap_or_default();
            name.strip_prefix(&java).and_then(|rest| rest.strip_prefix('.')) == Some(behind.trim_start_matches('.'))
        })
    }

    /// The message at these places: of the file's messages, of that one's nested messages, and so on.
    pub fn message_at(&self, file: &str, places: &[usize]) -> Option<MessageDescriptor> {
        let (first, inner) = places.split_first()?;
        let mut message = self.pool.get_file_by_name(file)?.messages().nth(*first)?;
        for place in inner {
            let child = message.child_messages().nth(*place)?;
            message = child;
        }
        Some(message)
    }

    /// Full names of all messages that the user defined (not Google's, not the entries of maps), sorted.
    pub fn message_names(&self) -> Vec<String> {
        let own = |message: &MessageDescriptor| {
            !message.is_map_entry() && !message.full_name().starts_with("google.protobuf.")
        };
        let mut names: Vec<String> =
            self.pool.all_messages().filter(own).map(|message| message.full_name().to_owned()).collect();
        names.sort();
        names
    }

    /// All definitions.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("proto"))
}

/// All `.proto` files of a folder and of those in it, sorted; an error if there are more than `most` files and folders.
/// Links to folders are not followed: they may lead around. What is hidden is left out: it is an editor's, or git's.
fn sources_below(root: &Path, most: usize) -> Result<Vec<PathBuf>> {
    let unread = |folder: &Path, error: std::io::Error| {
        Error::invalid(format!("the descriptor folder {} can't be read: {error}", folder.display()))
    };
    let (mut files, mut folders, mut entries) = (Vec::new(), vec![root.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| unread(&folder, error))? {
            let entry = entry.map_err(|error| unread(&folder, error))?;
            entries += 1;
            if entries > most {
                return Err(Error::invalid(format!(
                    "the descriptor folder {} has more than {most} files and folders in it: name a folder further down, or its .proto files one by one",
                    root.display()
                )));
            }
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if is_source(&path) && path.is_file() {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        let message = format!("the descriptor folder {} has no .proto files", root.display());
        return Err(Error::invalid(message).with_hint(HINT));
    }
    files.sort();
    Ok(files)
}

fn compile(paths: &[PathBuf], mut folders: Vec<PathBuf>) -> Result<DescriptorPool> {
    for path in paths {
        if std::fs::read_to_string(path).is_ok_and(|text| editions::is_source(&text)) {
            return Err(editions::unread_source(&path.display().to_string()));
        }
    }
    for path in paths {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        // A folder inside an include path is already reached through it, under another import name.
        if !folders.iter().any(|known| path.starts_with(known) && folder.starts_with(known)) {
            folders.push(folder);
        }
    }
    let compiled = protox::Compiler::new(&folders).and_then(|mut compiler| {
        compiler.include_imports(true);
        compiler.open_files(paths)?;
        Ok(compiler.descriptor_pool())
    });
    compiled.map_err(|error| {
        // Its debug form leads with file, line and column; the display form has none.
        let message = format!("the descriptor does not compile: {error:?}");
        let error = Error::invalid(message);
        if folders.is_empty() {
            error
        } else {
            error.with_hint(format!("imports are looked up in {}", shown(&folders)))
        }
    })
}

fn shown(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn read_set(path: &Path) -> Result<DescriptorPool> {
    let shown = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Error::invalid(format!("the descriptor file {shown} can't be read: {error}")))?;
    pool_of_set(&bytes, &shown.to_string())
}

fn pool_of_set(bytes: &[u8], shown: &str) -> Result<DescriptorPool> {
    let no_set = || Error::invalid(format!("{shown} is not a FileDescriptorSet")).with_hint(HINT);
    let mut set = editions::read_set(bytes).ok_or_else(no_set)??;
    if set.file.is_empty() {
        return Err(no_set());
    }
    add_well_known(&mut set);
    let missing = missing_imports(&set);
    if !missing.is_empty() {
        let message = format!("the descriptor set {shown} lacks the imported file {}", missing.join(", "));
        return Err(Error::invalid(message).with_hint("write the set with protoc --include_imports"));
    }
    DescriptorPool::from_file_descriptor_set(set)
        .map_err(|error| Error::invalid(format!("the descriptor set {shown} is inconsistent: {error:?}")))
}

fn missing_imports(set: &FileDescriptorSet) -> Vec<String> {
    let present: HashSet<&str> = set.file.iter().map(|file| file.name()).collect();
    let mut missing: Vec<String> = Vec::new();
    for import in set.file.iter().flat_map(|file| &file.dependency) {
        if !present.contains(import.as_str()) && !missing.contains(import) {
            missing.push(import.clone());
        }
    }
    missing
}

/// Adds Google's files where the set imports but lacks them (a set written without `--include_imports`).
fn add_well_known(set: &mut FileDescriptorSet) {
    let known = DescriptorPool::global();
    loop {
        let found: Vec<_> = missing_imports(set)
            .iter()
            .filter_map(|name| known.get_file_by_name(name))
            .map(|file| file.file_descriptor_proto().clone())
            .collect();
        if found.is_empty() {
            return;
        }
        set.file.extend(found);
    }
}

#[cfg(test)]
mod tests;
