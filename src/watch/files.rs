//! Whether the stack file or a template has changed since it was read.
//!
//! Files are looked at rather than subscribed to: that works on every file system, and where a folder is swapped under its
//! name, as Kubernetes does with what it mounts. A change counts once it has been still from one look to the next, so that
//! a file that is being written is not read in half.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::tick;

/// What tells one version of a file from another.
type Mark = (u64, u64, i64, i64);

/// Files as they were at one look; none where one cannot be looked at.
type Look = BTreeMap<PathBuf, Option<Mark>>;

/// Watches the files of a stack.
#[derive(Debug)]
pub struct Files {
    stack: PathBuf,
    /// As they were when the stack was read.
    read: Look,
    /// As they were at the last look.
    last: Look,
}

impl Files {
    /// Of the stack with this file, which is read now.
    pub fn of(stack: &Path) -> Self {
        let read = look(stack);
        Self {
            stack: stack.to_path_buf(),
            last: read.clone(),
            read,
        }
    }

    /// Whether they differ from what was read, and have been still since the last look.
    pub fn changed(&mut self) -> bool {
        let now = look(&self.stack);
        let still = now == self.last;
        self.last = now;
        still && self.last != self.read
    }

    /// They are read now.
    pub fn are_read(&mut self) {
        self.read = look(&self.stack);
        self.last.clone_from(&self.read);
    }
}

fn look(stack: &Path) -> Look {
    // A folder that cannot be read is told when the stack is.
    let files = tick::sources(stack).unwrap_or_else(|_| vec![stack.to_path_buf()]);
    files
        .into_iter()
        .map(|path| {
            let mark = fs_err::metadata(&path).ok();
            let mark = mark.map(|about| (about.ino(), about.len(), about.mtime(), about.mtime_nsec()));
            (path, mark)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_is_still_and_until_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs_err::create_dir_all(root.join("stacks")).unwrap();
        fs_err::create_dir_all(root.join("cloud-init")).unwrap();
        let stack = root.join("stacks/prod.toml");
        fs_err::write(&stack, "a").unwrap();
        let mut files = Files::of(&stack);
        assert!(!files.changed());
        fs_err::write(&stack, "ab").unwrap();
        assert!(!files.changed(), "seen for the first time");
        assert!(files.changed(), "and still so");
        files.are_read();
        assert!(!files.changed());
        fs_err::write(root.join("cloud-init/new.yaml.tera"), "x").unwrap();
        files.changed();
        assert!(files.changed(), "a template was added");
        files.are_read();
        fs_err::write(root.join("stacks/other.toml"), "x").unwrap();
        fs_err::write(root.join("cloud-init/notes.txt"), "x").unwrap();
        files.changed();
        assert!(!files.changed(), "nothing of ours");
        fs_err::remove_file(&stack).unwrap();
        files.changed();
        assert!(files.changed(), "it is gone");
    }
}
