//! The folder of do-scaler (`do-scaler.cfg`, `conf.d/*.cfg`, its policies and droplets).
//!
//! Each scaler becomes a pool whose steps are its policies, in their order. A value that refers to another is filled in as Python
//! does; the token is never copied, wherever it stands. What a policy calls besides making, removing and checking droplets is
//! named, with the hook that could do it.

mod ini;
mod json;
mod policies;
mod scaler;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jiff::SignedDuration;

use self::{
    ini::{Ini, Problem, Value},
    scaler::Scaler,
};
use super::{Converted, FromError, Left};
use crate::{model::metrics::AddressKind, stack::parse};

/// Its main file.
const MAIN: &str = "do-scaler.cfg";
/// The section of its clock.
const SCHEDULER: &str = "scheduler";
/// Its actions that are our own business.
const OWN_ACTIONS: [&str; 3] = [CREATE, DESTROY, HEALTH];
/// Makes a droplet.
const CREATE: &str = "digitalocean_create_droplet";
/// Removes the first droplet.
const DESTROY: &str = "digitalocean_destroy_droplet";
/// Waits for ports.
const HEALTH: &str = "health_check_tcp";

/// A folder that is read as it is asked for. Paths are relative to it, or absolute.
pub trait Files {
    /// A file's text.
    ///
    /// # Errors
    /// Why it cannot be read, in the system's words.
    fn text(&self, path: &str) -> Result<String, String>;

    /// The names of what is in a folder, in any order.
    ///
    /// # Errors
    /// Why it cannot be read, in the system's words.
    fn names(&self, folder: &str) -> Result<Vec<String>, String>;
}

/// Texts by their path.
impl Files for BTreeMap<String, String> {
    fn text(&self, path: &str) -> Result<String, String> {
        self.get(path)
            .cloned()
            .ok_or_else(|| "No such file or directory".to_owned())
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, String> {
        let inside = self.keys().filter_map(|path| {
            let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
            rest.split('/').next().map(str::to_owned)
        });
        let names: BTreeSet<String> = inside.collect();
        if names.is_empty() {
            return Err("No such file or directory".to_owned());
        }
        Ok(names.into_iter().collect())
    }
}

/// Where metrics are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    port: u16,
    address: AddressKind,
}

/// A login key whose text is known.
#[derive(Debug)]
struct Key {
    name: String,
    provider: String,
    text: String,
}

/// What it says, in our words.
#[derive(Debug)]
struct Settings {
    interval: SignedDuration,
    /// A provider's name and the variable of its token, of each account.
    accounts: Vec<(String, String)>,
    /// A CI's name and where its metrics are.
    sources: Vec<(String, Source)>,
    keys: Vec<Key>,
    scalers: Vec<Scaler>,
}

/// Makes a stack file of this name.
///
/// # Errors
/// When what do-scaler would not start without is missing or wrong, or it comes to no valid stack.
pub fn convert(files: &dyn Files, name: &str) -> Result<Converted, FromError> {
    let main = Cfg::read(files, MAIN)?;
    let (seconds, value) = main.need_number(SCHEDULER, "interval", "120")?;
    if seconds == 0 {
        return Err(main.wrong(&value, "interval", "above zero", "interval = 120"));
    }
    let interval = SignedDuration::from_secs(i64::from(seconds));
    let mut reading = Reading {
        files,
        folder: folder(&main)?,
        left: Vec::new(),
        tokens: Vec::new(),
        settings: Settings {
            interval,
            accounts: Vec::new(),
            sources: Vec::new(),
            keys: Vec::new(),
            scalers: Vec::new(),
        },
        used: BTreeSet::new(),
    };
    reading.rest(&main);
    reading.scalers()?;
    reading.unused();
    let text = text::written(name, &reading.settings);
    let stack = parse(&text, &format!("stacks/{}.toml", name.escape_debug())).map_err(Box::new)?;
    Ok(Converted {
        text,
        stack,
        left: reading.left,
    })
}

/// The folder of scalers.
fn folder(main: &Cfg) -> Result<String, FromError> {
    let sections: Vec<&str> = main.ini.sections().collect();
    for section in std::iter::once(SCHEDULER).chain(sections) {
        if let Some(value) = main.get(section, "confd_dir")? {
            return Ok(value.text.trim_end_matches('/').to_owned());
        }
    }
    Ok("conf.d".to_owned())
}

/// One way through the folder.
struct Reading<'f> {
    files: &'f dyn Files,
    /// Of scalers.
    folder: String,
    left: Vec<Left>,
    /// The tokens of the accounts so far, to tell them apart; they go nowhere.
    tokens: Vec<String>,
    settings: Settings,
    /// Files that scalers name, and folders that they look into.
    used: BTreeSet<String>,
}

impl Reading<'_> {
    fn scalers(&mut self) -> Result<(), FromError> {
        let names = self.files.names(&self.folder).map_err(|why| FromError::InFile {
            file: self.folder.clone(),
            line: None,
            why: format!("cannot be read: {why}"),
            help: format!("name the folder that has {MAIN} and conf.d/, or correct confd_dir in {MAIN}"),
        })?;
        let is_scaler = |name: &String| ends_in(name, "cfg") && !name.starts_with('.');
        let names: BTreeSet<String> = names.into_iter().filter(is_scaler).collect();
        if names.is_empty() {
            return Err(FromError::InFile {
                file: self.folder.clone(),
                line: None,
                why: "has no scaler".to_owned(),
                help: format!(
                    "each scaler is a file there that ends in .cfg; or correct confd_dir in {MAIN}"
                ),
            });
        }
        for name in names {
            let scaler = self.scaler(&name)?;
            self.settings.scalers.push(scaler);
        }
        Ok(())
    }

    fn leave(&mut self, key: impl Into<String>, why: impl Into<String>) {
        self.left.push(Left {
            key: key.into(),
            why: why.into(),
        });
    }

    /// Names what nobody asked for in a file.
    fn rest(&mut self, cfg: &Cfg) {
        for (section, option) in cfg.ini.unread() {
            let own = OWN_ACTIONS.contains(&section.as_str())
                || matches!(&*section, "scaler" | "scaler.metrics" | SCHEDULER);
            let why = if own {
                "do-scaler's own code knows no such key either"
            } else {
                "a setting of an action of your own, or nobody's: give it to the program that the hook calls"
            };
            self.leave(format!("{}: [{section}] {option}", cfg.file), why);
        }
    }

    /// Names the files that no scaler uses.
    fn unused(&mut self) {
        let folders: Vec<String> = self.used.iter().filter_map(|path| parent(path)).collect();
        let folders: BTreeSet<String> = folders.into_iter().collect();
        for folder in folders {
            for name in self.files.names(&folder).unwrap_or_default() {
                let path = format!("{folder}/{name}");
                if ends_in(&name, "json") && !self.used.contains(&path) {
                    self.leave(path, "no scaler names this file");
                }
            }
        }
    }

    /// The provider of an account; the first is called after the cloud, others after their scaler.
    fn account(&mut self, token: &str, scaler: &str) -> String {
        if let Some(at) = self.tokens.iter().position(|known| known == token) {
            return self.settings.accounts[at].0.clone();
        }
        let account = if self.tokens.is_empty() {
            ("digitalocean".to_owned(), "DIGITALOCEAN_TOKEN".to_owned())
        } else {
            let upper = scaler.to_ascii_uppercase().replace('-', "_");
            (
                format!("digitalocean-{scaler}"),
                format!("DIGITALOCEAN_TOKEN_{upper}"),
            )
        };
        self.tokens.push(token.to_owned());
        self.settings.accounts.push(account.clone());
        account.0
    }

    /// The name of a key; an account keeps one once, whatever its comment is.
    fn key(&mut self, text: &str, provider: &str, scaler: &str) -> String {
        let body =
            |text: &str| -> Vec<String> { text.split_whitespace().take(2).map(str::to_owned).collect() };
        let known = &self.settings.keys;
        let mut same = known
            .iter()
            .filter(|key| key.provider == provider && body(&key.text) == body(text));
        if let Some(key) = same.next() {
            return key.name.clone();
        }
        let own = known
            .iter()
            .filter(|key| key.name.starts_with(&format!("{scaler}-")));
        let key = Key {
            name: format!("{scaler}-{}", own.count() + 1),
            provider: provider.to_owned(),
            text: text.to_owned(),
        };
        let name = key.name.clone();
        self.settings.keys.push(key);
        name
    }

    /// The source that reads at this port and address.
    fn source(&mut self, source: Source, scaler: &str) -> String {
        let known = &self.settings.sources;
        if let Some((name, _)) = known.iter().find(|(_, known)| *known == source) {
            return name.clone();
        }
        let name = if known.is_empty() {
            "metrics".to_owned()
        } else {
            format!("metrics-{scaler}")
        };
        self.settings.sources.push((name.clone(), source));
        name
    }
}

/// Whether a file's name ends so; capitals are others, as they are to do-scaler.
fn ends_in(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == ending)
}

/// The folder of a path.
fn parent(path: &str) -> Option<String> {
    path.rsplit_once('/').map(|(folder, _)| folder.to_owned())
}

/// A configuration file.
struct Cfg {
    file: String,
    ini: Ini,
}

impl Cfg {
    fn read(files: &dyn Files, file: &str) -> Result<Self, FromError> {
        let text = read(files, file, || {
            format!("name the folder that has {MAIN} and conf.d/")
        })?;
        let ini = Ini::read(&text).map_err(|problem| in_file(file, problem))?;
        Ok(Self {
            file: file.to_owned(),
            ini,
        })
    }

    fn get(&self, section: &str, option: &str) -> Result<Option<Value>, FromError> {
        let value = self.ini.get(section, option);
        value.map_err(|problem| in_file(&self.file, problem))
    }

    /// A value that must be there, and not empty.
    fn need(&self, section: &str, option: &str, example: &str) -> Result<Value, FromError> {
        let value = self.get(section, option)?;
        let (line, why) = match (value, self.ini.section(section)) {
            (Some(value), _) if !value.text.is_empty() => return Ok(value),
            (Some(value), _) => (value.line, format!("{option} is empty in [{section}]")),
            (None, Some(line)) => (line, format!("{option} is missing in [{section}]")),
            (None, None) => (self.ini.end, format!("the section [{section}] is missing")),
        };
        let help = if self.ini.section(section).is_some() {
            format!("write `{option} = {example}` there, with a value of your own")
        } else {
            format!("add the section [{section}] with `{option} = {example}`, with a value of your own")
        };
        Err(in_file(&self.file, Problem { line, why, help }))
    }

    /// A whole number that must be there.
    fn need_number(&self, section: &str, option: &str, example: &str) -> Result<(u32, Value), FromError> {
        let value = self.need(section, option, example)?;
        match value.text.trim().parse() {
            Ok(number) => Ok((number, value)),
            Err(_) => Err(self.wrong(
                &value,
                option,
                "a whole number, zero or above",
                &format!("{option} = {example}"),
            )),
        }
    }

    fn wrong(&self, value: &Value, option: &str, expected: &str, example: &str) -> FromError {
        let problem = Problem {
            line: value.line,
            why: format!("{option} is not {expected}"),
            help: format!("write `{example}`, with a value of your own"),
        };
        in_file(&self.file, problem)
    }
}

fn in_file(file: &str, problem: Problem) -> FromError {
    FromError::InFile {
        file: file.to_owned(),
        line: Some(problem.line),
        why: problem.why,
        help: problem.help,
    }
}

fn read(files: &dyn Files, file: &str, help: impl FnOnce() -> String) -> Result<String, FromError> {
    files.text(file).map_err(|why| FromError::InFile {
        file: file.to_owned(),
        line: None,
        why: format!("cannot be read: {why}"),
        help: help(),
    })
}

#[cfg(test)]
mod tests;
