//! The world's file: read at start, replaced whole before a call that changed the world is answered.
//!
//! One task writes. Calls that wait at the same time are covered by the same write: a thousand concurrent creates do
//! not write a thousand files. The file survives a kill of the process, not a loss of power: nothing is fsynced.

#![expect(
    clippy::disallowed_methods,
    reason = "the one saver is waited for when the sandbox stops"
)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::watch;

use super::{
    settings::Settings,
    world::{FORMAT, World},
};

/// Why the world's file could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file cannot be read or replaced.
    #[error("the world's file {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's contents are no world.
    #[error("the world's file {path} is damaged: {source}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where and how.
        source: serde_json::Error,
    },
    /// The file is of another version of the sandbox.
    #[error("the world's file {path} has format {found}, this sandbox knows {FORMAT}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// The format that it says it has.
        found: u32,
    },
}

/// Reads the world that `path` holds; `None` where there is no file yet.
pub(crate) fn load(path: &Path, settings: &Settings, wall: Timestamp) -> Result<Option<World>, StoreError> {
    let text = match fs_err::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StoreError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let damaged = |source| StoreError::Damaged {
        path: path.to_owned(),
        source,
    };
    let mark: FormatMark = serde_json::from_slice(&text).map_err(damaged)?;
    if mark.format != FORMAT {
        return Err(StoreError::Format {
            path: path.to_owned(),
            found: mark.format,
        });
    }
    let mut world: World = serde_json::from_slice(&text).map_err(damaged)?;
    world.revive(settings.clone(), wall);
    Ok(Some(world))
}

#[derive(serde::Deserialize)]
struct FormatMark {
    format: u32,
}

/// Replaces the file by this text.
pub(crate) fn write(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    let io = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let next = path.with_file_name(name);
    fs_err::write(&next, text).map_err(io)?;
    fs_err::rename(&next, path).map_err(|source| {
        // The half-made file is of no use to anybody.
        let _ = fs_err::remove_file(&next);
        io(source)
    })
}

/// The world as the file holds it.
pub(crate) fn encode(world: &World) -> Vec<u8> {
    // Every map in it has keys that JSON can hold.
    serde_json::to_vec(world).unwrap_or_default()
}

/// Hands saves to the one task that writes.
#[derive(Debug)]
pub(crate) struct Saver {
    asked: watch::Sender<u64>,
    done: watch::Receiver<Saved>,
}

#[derive(Debug, Clone, Default)]
struct Saved {
    tickets: u64,
    problem: Option<String>,
}

impl Saver {
    /// Starts the task. It ends when the saver is dropped.
    pub(crate) fn start(path: PathBuf, world: Arc<Mutex<World>>) -> (Self, tokio::task::JoinHandle<()>) {
        let (asked, mut asks) = watch::channel(0_u64);
        let (report, done) = watch::channel(Saved::default());
        let task = tokio::spawn(async move {
            while asks.changed().await.is_ok() {
                // Tickets handed out until now: their changes are in the world that is encoded next.
                let tickets = *asks.borrow_and_update();
                let (world, path) = (Arc::clone(&world), path.clone());
                let result = tokio::task::spawn_blocking(move || {
                    let text = encode(&world.lock().unwrap_or_else(PoisonError::into_inner));
                    write(&path, &text)
                })
                .await;
                let problem = match result {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                if report.send(Saved { tickets, problem }).is_err() {
                    break;
                }
            }
        });
        (Self { asked, done }, task)
    }

    /// Waits until a save begun after this call has ended.
    pub(crate) async fn saved(&self) -> Result<(), String> {
        let mut ticket = 0;
        self.asked.send_modify(|tickets| {
            *tickets += 1;
            ticket = *tickets;
        });
        let mut done = self.done.clone();
        match done.wait_for(|saved| saved.tickets >= ticket).await {
            Ok(saved) => saved.problem.clone().map_or(Ok(()), Err),
            Err(_) => Err("the sandbox has stopped".to_owned()),
        }
    }
}
