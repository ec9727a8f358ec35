//! Files that are written past the system's cache.
//!
//! Nobody reads a checkpoint's files soon, and they are synced at once: a copy of each in the system's memory would cost
//! several times what the disk does.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::super::pages::PAGE;

/// Files with fewer bytes go by the cache: each write of this kind waits for the disk.
const LEAST: usize = 1 << 20;

/// Writes a file, not synced. `None`: it cannot be written so, and is to be written as any other.
#[cfg(target_os = "linux")]
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<Option<File>> {
    use std::io::Write;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};

    if bytes.len() < LEAST || bytes.as_ptr().align_offset(PAGE) != 0 {
        return Ok(None);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
    // Not every file system knows the way; one says so when the file is opened, another when it is written.
    let Ok(mut direct) = options.open(path) else { return Ok(None) };
    let (pages, rest) = bytes.split_at(bytes.len() / PAGE * PAGE);
    match direct.write_all(pages) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        written => written?,
    }
    drop(direct);
    // What is less than a page can't be written that way.
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(rest, pages.len() as u64)?;
    Ok(Some(file))
}

/// As any other.
#[cfg(not(target_os = "linux"))]
pub(super) fn write(_path: &Path, _bytes: &[u8]) -> io::Result<Option<File>> {
    let _ = (LEAST, PAGE);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::super::pages::{Pages, Spare};
    use super::*;

    #[test]
    fn what_is_written_is_there_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for more in [0, 1, PAGE - 1] {
            let mut pages = Pages::new(&Spare::default());
            let written: Vec<u8> = (0..LEAST + more).map(|at| (at % 253) as u8).collect();
            pages.write_all(&written).unwrap();
            let bytes = pages.finish();
            std::fs::write(&path, vec![7; 3 * LEAST]).unwrap();
            // A file system in memory may not be able to.
            if write(&path, &bytes).unwrap().is_some() {
                assert_eq!(std::fs::read(&path).unwrap(), written);
            }
            assert!(write(&path, &bytes.slice(1..)).unwrap().is_none(), "it does not begin at a page");
        }
        assert!(write(&path, b"little").unwrap().is_none());
    }
}
