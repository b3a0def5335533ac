//! Configuration as Python's `ConfigParser` reads it with `ExtendedInterpolation`, each value with its line.
//!
//! What is what, as Python's documentation and its behaviour have it: a section's name keeps its case, an option's is
//! lowered; `=` or `:`, whichever comes first, ends an option; a whole line that begins with `#` or `;` is a comment, what stands
//! behind a value is none; a line that is indented further than its option goes on with that option's value; `[DEFAULT]` is what
//! every section falls back to; a section or an option that comes twice is an error. `${option}` is looked up in the same section,
//! `${section:option}` elsewhere, `$$` is a dollar. Tests compare all of this with Python itself.
//!
//! No crate does: those that were looked at have no lines, and no interpolation.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// What every section falls back to.
const DEFAULT: &str = "DEFAULT";
/// How many references may be in each other, as Python has it.
const DEPTH: usize = 10;
/// The longest value that references may come to, which Python does not bound.
const LONGEST: usize = 64 * 1024;

/// A problem of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// From 1.
    pub(super) line: usize,
    /// What is wrong; shows no value.
    pub(super) why: String,
    /// What to type.
    pub(super) help: String,
}

/// A value, as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// Where its option stands, from 1.
    pub(super) line: usize,
    /// Its text, references filled in.
    pub(super) text: String,
}

/// An option as it stands.
#[derive(Debug)]
struct Entry {
    line: usize,
    raw: String,
}

/// A section as it stands.
#[derive(Debug, Default)]
struct Section {
    line: usize,
    options: BTreeMap<String, Entry>,
}

/// A text that was read, with account of what was asked for.
#[derive(Debug, Default)]
pub(super) struct Ini {
    defaults: Section,
    sections: BTreeMap<String, Section>,
    /// Where a further line would stand.
    pub(super) end: usize,
    asked: RefCell<BTreeSet<(String, String)>>,
}

impl Ini {
    /// Reads a text.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut reader = Reader::default();
        for (index, line) in text.split('\n').enumerate() {
            reader.line(index + 1, line)?;
        }
        let mut ini = reader.ini;
        for section in std::iter::once(&mut ini.defaults).chain(ini.sections.values_mut()) {
            for option in section.options.values_mut() {
                option.raw.truncate(option.raw.trim_end_matches(is_space).len());
            }
        }
        ini.end = text.matches('\n').count() + 1 + usize::from(!text.is_empty() && !text.ends_with('\n'));
        Ok(ini)
    }

    /// The line of a section's header; none where there is no such section.
    pub(super) fn section(&self, name: &str) -> Option<usize> {
        self.sections.get(name).map(|section| section.line)
    }

    /// The names of all sections.
    pub(super) fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    /// An option's value; none where the section does not have it, nor `[DEFAULT]`.
    pub(super) fn get(&self, section: &str, option: &str) -> Result<Option<Value>, Problem> {
        let option = option.to_lowercase();
        let Some(found) = self.raw(section, &option) else {
            return Ok(None);
        };
        let mut filling = Filling {
            ini: self,
            line: found.line,
            text: String::new(),
            within: vec![(section.to_owned(), option)],
        };
        filling.fill(&found.raw, section)?;
        Ok(Some(Value {
            line: found.line,
            text: filling.text,
        }))
    }

    /// The options of sections that nobody asked for, neither by name nor by a reference: section, option.
    pub(super) fn unread(&self) -> Vec<(String, String)> {
        let asked = self.asked.borrow();
        let all = self.sections.iter().flat_map(|(section, found)| {
            let options = found.options.keys();
            options.map(|option| (section.clone(), option.clone()))
        });
        all.filter(|pair| !asked.contains(pair)).collect()
    }

    /// An option as it stands, in a section or in what that falls back to.
    fn raw(&self, section: &str, option: &str) -> Option<&Entry> {
        let own = match self.sections.get(section) {
            Some(own) => own,
            None if section == DEFAULT => &self.defaults,
            None => return None,
        };
        self.asked
            .borrow_mut()
            .insert((section.to_owned(), option.to_owned()));
        own.options
            .get(option)
            .or_else(|| self.defaults.options.get(option))
    }
}

/// A text on its way.
#[derive(Default)]
struct Reader {
    ini: Ini,
    /// The section that lines belong to.
    section: Option<String>,
    /// The option that an indented line goes on with.
    option: Option<String>,
    indent: usize,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Problem> {
        let value = line.trim_matches(is_space);
        if value.starts_with(['#', ';']) {
            return Ok(());
        }
        if value.is_empty() {
            if let Some(option) = self.going_on() {
                option.raw.push('\n');
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|letter| is_space(*letter)).count();
        if indent > self.indent
            && let Some(option) = self.going_on()
        {
            option.raw.push('\n');
            option.raw.push_str(value);
            return Ok(());
        }
        self.indent = indent;
        match header(value) {
            Some(name) => self.begin(number, name),
            None => self.option(number, value),
        }
    }

    fn going_on(&mut self) -> Option<&mut Entry> {
        let section = self.section.as_deref()?;
        let option = self.option.as_deref()?;
        let section = match section {
            DEFAULT => &mut self.ini.defaults,
            name => self.ini.sections.get_mut(name)?,
        };
        section.options.get_mut(option)
    }

    fn begin(&mut self, line: usize, name: &str) -> Result<(), Problem> {
        if let Some(first) = self.ini.sections.get(name) {
            return Err(Problem {
                line,
                why: format!("the section [{name}] is there already, in line {}", first.line),
                help: "let each section stand once".to_owned(),
            });
        }
        if name != DEFAULT {
            let section = Section {
                line,
                options: BTreeMap::new(),
            };
            self.ini.sections.insert(name.to_owned(), section);
        }
        self.section = Some(name.to_owned());
        self.option = None;
        Ok(())
    }

    fn option(&mut self, line: usize, text: &str) -> Result<(), Problem> {
        let Some(section) = self.section.clone() else {
            return Err(Problem {
                line,
                why: "something stands before the first section".to_owned(),
                help: "begin with a section: [scaler]".to_owned(),
            });
        };
        let parts = text.split_once(['=', ':']);
        let name = parts.map(|(name, _)| name.trim_end_matches(is_space).to_lowercase());
        let (Some((_, value)), Some(name)) = (parts, name.filter(|name| !name.is_empty())) else {
            return Err(Problem {
                line,
                why: "neither a section, an option nor a comment".to_owned(),
                help: "write KEY = VALUE; a line that goes on with the value before it is indented further"
                    .to_owned(),
            });
        };
        let options = match section.as_str() {
            DEFAULT => &mut self.ini.defaults.options,
            name => &mut self.ini.sections.entry(name.to_owned()).or_default().options,
        };
        if let Some(first) = options.get(&name) {
            return Err(Problem {
                line,
                why: format!("{name} is there already in [{section}], in line {}", first.line),
                help: "let each option of a section stand once".to_owned(),
            });
        }
        let raw = value.trim_matches(is_space).to_owned();
        options.insert(name.clone(), Entry { line, raw });
        self.option = Some(name);
        Ok(())
    }
}

/// The name in `[name]`; what stands behind the last bracket does not matter.
fn header(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('[')?;
    let name = &inside[..inside.rfind(']')?];
    (!name.is_empty()).then_some(name)
}

/// What Python's `str.isspace` takes for one.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// A value whose references are filled in.
struct Filling<'i> {
    ini: &'i Ini,
    /// Of the option that was asked for.
    line: usize,
    text: String,
    /// Section and option of each value that we are in.
    within: Vec<(String, String)>,
}

impl Filling<'_> {
    fn problem(&self, why: &str, help: impl Into<String>) -> Problem {
        let (_, option) = &self.within[0];
        Problem {
            line: self.line,
            why: format!("{option}: {why}"),
            help: help.into(),
        }
    }

    fn fill(&mut self, raw: &str, section: &str) -> Result<(), Problem> {
        if self.within.len() > DEPTH {
            let why = format!("its references go more than {DEPTH} deep");
            return Err(self.problem(&why, "write the value itself"));
        }
        let mut rest = raw;
        while let Some(at) = rest.find('$') {
            self.text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                self.text.push('$');
                rest = after;
                continue;
            }
            let reference = rest
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'))
                .filter(|(reference, _)| !reference.is_empty());
            let Some((reference, after)) = reference else {
                return Err(self.problem(
                    "a $ that begins no reference",
                    "write ${option} or ${section:option}, and $$ for a dollar",
                ));
            };
            rest = after;
            self.refer(reference, section)?;
            if self.text.len() > LONGEST {
                let why = format!("it comes to more than {LONGEST} letters");
                return Err(self.problem(&why, "write the value itself"));
            }
        }
        self.text.push_str(rest);
        Ok(())
    }

    fn refer(&mut self, reference: &str, section: &str) -> Result<(), Problem> {
        let parts: Vec<&str> = reference.split(':').collect();
        let (section, option) = match parts[..] {
            [option] => (section, option),
            [section, option] => (section, option),
            _ => {
                let why = format!("${{{reference}}} has more than one colon");
                return Err(self.problem(&why, "write ${option} or ${section:option}"));
            }
        };
        let place = (section.to_owned(), option.to_lowercase());
        let Some(found) = self.ini.raw(section, &place.1) else {
            let why = format!("${{{reference}}} refers to nothing");
            let help = format!(
                "write `{} = …` into [{section}], or correct the reference; $$ is a dollar",
                place.1
            );
            return Err(self.problem(&why, help));
        };
        if !found.raw.contains('$') {
            self.text.push_str(&found.raw);
            return Ok(());
        }
        if self.within.contains(&place) {
            let why = format!("${{{reference}}} refers to itself in the end");
            return Err(self.problem(&why, "write one of the values itself"));
        }
        self.within.push(place);
        self.fill(&found.raw, section)?;
        self.within.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
