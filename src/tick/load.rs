//! Finds a stack file, reads it and the templates that it names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    render::TemplateSet,
    stack::{self, Stack, StackProblems},
};

/// Folders of the project whose `.tera` files a stack's templates may come from.
const TEMPLATE_FOLDERS: [&str; 2] = ["cloud-init", "templates"];

/// A stack, and what stands around it.
#[derive(Clone, Debug)]
pub struct LoadedStack {
    /// The validated stack.
    pub stack: Stack,
    /// Its file.
    pub file: PathBuf,
    /// The project's folder: what templates are relative to.
    pub root: PathBuf,
    /// Every template of the project, and the built-in ones that it does not replace.
    pub templates: TemplateSet,
}

impl LoadedStack {
    /// The folder of the stack file: what state, secrets and certificates are relative to.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or_else(|| Path::new("."))
    }
}

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Nothing was named, and there is not exactly one to choose.
    #[error("no stack is named, and there are {} in stacks/", .found.len())]
    Choose {
        /// The names of those that are there.
        found: Vec<String>,
    },
    /// What was named is not there.
    #[error("there is no stack {name}")]
    Missing {
        /// What was named.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// The names of those that are there.
        found: Vec<String>,
    },
    /// The file is not valid.
    #[error(transparent)]
    Problems(#[from] Box<StackProblems>),
    /// Something could not be read.
    #[error("reading {}", .path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The file of the stack that is meant: a path, a name in `stacks/`, or the only one there.
///
/// # Errors
/// [`LoadError::Choose`] and [`LoadError::Missing`] list what is there.
pub fn find(named: Option<&str>) -> Result<PathBuf, LoadError> {
    let folder = Path::new("stacks");
    let found = stacks_in(folder);
    match named {
        Some(name) => {
            let is_path = name.contains('/') || Path::new(name).extension().is_some_and(|end| end == "toml");
            let path = if is_path {
                PathBuf::from(name)
            } else {
                folder.join(format!("{name}.toml"))
            };
            if path.is_file() {
                return Ok(path);
            }
            Err(LoadError::Missing {
                name: name.to_owned(),
                path,
                found,
            })
        }
        None => match found.as_slice() {
            [only] => Ok(folder.join(format!("{only}.toml"))),
            _ => Err(LoadError::Choose { found }),
        },
    }
}

fn stacks_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// Reads and validates a stack file, and the project's templates.
///
/// # Errors
/// Every problem of the file at once, or what could not be read.
pub fn load(file: &Path) -> Result<LoadedStack, LoadError> {
    let text = read(file)?;
    let stack = stack::parse(&text, &file.display().to_string()).map_err(Box::new)?;
    let root = root_of(file);
    let mut files: BTreeMap<String, String> = crate::render::builtin().files;
    for path in templates_of(&root)? {
        let name = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy();
        files.insert(name.into_owned(), read(&path)?);
    }
    Ok(LoadedStack {
        stack,
        file: file.to_path_buf(),
        root,
        templates: TemplateSet { files },
    })
}

/// The files that [`load`] reads: the stack file and the project's templates.
///
/// # Errors
/// When a folder of templates cannot be read.
pub fn sources(file: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut all = templates_of(&root_of(file))?;
    all.push(file.to_path_buf());
    Ok(all)
}

/// The project's folder: the one around `stacks`, else the stack file's own.
fn root_of(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    if folder.file_name().is_some_and(|name| name == "stacks") {
        folder.parent().unwrap_or_else(|| Path::new(".")).to_path_buf()
    } else {
        folder.to_path_buf()
    }
}

fn templates_of(root: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut found = Vec::new();
    for name in TEMPLATE_FOLDERS {
        gather(&root.join(name), &mut found)?;
    }
    Ok(found)
}

fn gather(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    if !folder.is_dir() {
        return Ok(());
    }
    let entries = fs_err::read_dir(folder).map_err(|source| LoadError::Io {
        path: folder.to_path_buf(),
        source,
    })?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "tera") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, LoadError> {
    fs_err::read_to_string(path).map_err(|source| LoadError::Io {
        path: path.to_path_buf(),
        source,
    })
}
