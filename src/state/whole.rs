//! Files that are replaced whole, or not at all.
//!
//! The new content goes to a temporary file in the same folder, which is synced and renamed over the old one; then the
//! folder is synced. Whenever the process or the machine dies, the file is the old one or the new one. When writing
//! fails (a full disk), the temporary file is removed and the old one is untouched.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell's file system; StateError names the path"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::StateError;

/// Only their owner may read or write a stack's files.
pub(super) const MODE: u32 = 0o600;

/// And so may only he look into a folder of them.
const FOLDER_MODE: u32 = 0o700;

/// What a temporary file's name ends in.
const TEMPORARY: &str = ".tmp";

/// Makes the error of a failed system call: what was being done, and to what.
pub(super) fn failed(doing: &'static str, place: &Path) -> impl FnOnce(io::Error) -> StateError {
    let place = place.display().to_string();
    move |source| StateError::Io { doing, place, source }
}

/// The path with this added to its last part.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes the entries of a file's folder durable.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), StateError> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", folder))
}

/// Reads a file; none when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Opens a file for reading; none when it cannot be.
pub(super) fn open_to_read(path: &Path) -> Option<File> {
    File::open(path).ok()
}

/// Opens a file for reading and writing, making it when there is none; its content stays.
pub(super) fn open(path: &Path) -> Result<File, StateError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .map_err(failed("open", path))
}

/// Replaces a file whole; durable when it returns.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), StateError> {
    // A name of its own for each write: whoever forgets the lock still renames only what he wrote himself.
    let mut file = tempfile::Builder::new()
        .prefix(&prefix_of(path))
        .suffix(TEMPORARY)
        .tempfile_in(folder_of(path))
        .map_err(failed("write", path))?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed("write", path))?;
    // Dropped with the error, the temporary file is removed.
    file.persist(path)
        .map_err(|error| failed("replace", path)(error.error))?;
    sync_folder_of(path)
}

/// Removes the temporary files that a killed process left beside this file. Only for who holds the lock.
pub(super) fn sweep(path: &Path) -> Result<(), StateError> {
    let prefix = prefix_of(path);
    let folder = folder_of(path);
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        let left_over = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(&prefix) && name.ends_with(TEMPORARY));
        if left_over {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Gives a file that is never written in place a second name, in a folder that is made where there is none; durable when
/// it returns. What had that name before is dropped. Where the file system has no second names, it is a copy.
pub(super) fn keep(path: &Path, kept: &Path) -> Result<(), StateError> {
    let folder = folder_of(kept);
    if !folder.is_dir() {
        let made = fs::DirBuilder::new().mode(FOLDER_MODE).create(folder);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed("make", folder)(error));
        }
        sync_folder_of(folder)?;
    }
    remove(kept)?;
    match fs::hard_link(path, kept) {
        Ok(()) => sync_folder_of(kept),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(failed("write", kept)(error)),
        Err(_) => {
            sweep(kept)?;
            let content = fs::read(path).map_err(failed("read", path))?;
            replace(kept, &content)
        }
    }
}

/// The names in a folder; none where there is no such folder.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder)(error)),
    };
    let name =
        |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    entries
        .map(name)
        .collect::<io::Result<_>>()
        .map_err(failed("list", folder))
}

/// Removes a file; that there is none is no error.
pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// How the names of a file's temporary files begin: `prod.json.`.
fn prefix_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}.")
}
