//! The journal as a file: JSON lines with checksums, appended to, and synced once for all that wait.
//!
//! The first line says what the journal extends, each other line is one entry:
//!
//! ```text
//! {"crc":"6f1c09ab","journal":{"version":2,"stack":"prod","lineage":"…","extends":7}}
//! {"crc":"0d7a4411","entry":{"at":"…","intent":"…","address":"machine.linux/brave-otter","step":"begin",…}}
//! ```
//!
//! The checksum is the CRC-32 of the bytes of the line's value. What a crash tears is the end of the file: from the
//! first bad line on nothing is read, when nothing good follows it. A bad line before a good one is no crash's doing,
//! and an error. Nothing is removed by reading; the torn end is cut off before the next append.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    StateError,
    whole::{failed, open, read, replace, sync_folder_of},
};
use crate::model::{
    ids::{Lineage, Serial, StackName},
    intent::Entry,
};

/// The version of the journal's format that this program writes. Version 2 added relabels and what machines and states
/// gained with it; a journal of version 1 is read as it is, and gets a new first line before it is appended to, so that an
/// earlier program refuses it by its version.
const VERSION: u32 = 2;

/// What a journal extends: its first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The format's version.
    pub(super) version: u64,
    /// Whose.
    pub(super) stack: StackName,
    /// Of which state; none when there was none yet.
    pub(super) lineage: Option<Lineage>,
    /// The serial of that state.
    pub(super) extends: Serial,
}

impl Header {
    /// The header of a new journal.
    pub(super) fn new(stack: StackName, lineage: Option<Lineage>, extends: Serial) -> Self {
        Self {
            version: u64::from(VERSION),
            stack,
            lineage,
            extends,
        }
    }
}

/// What a journal file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Its first line; none when the file was torn before that was whole.
    pub(super) header: Option<Header>,
    /// The entries, oldest first.
    pub(super) entries: Vec<Entry>,
    /// How many bytes are good.
    pub(super) good: u64,
    /// How many bytes at the end are torn.
    pub(super) torn: u64,
}

/// One line: `key` is `journal` or `entry`.
pub(super) fn line<T: Serialize>(key: &str, value: &T) -> Result<String, serde_json::Error> {
    let value = serde_json::to_string(value)?;
    let crc = crc32fast::hash(value.as_bytes());
    Ok(format!("{{\"crc\":\"{crc:08x}\",\"{key}\":{value}}}\n"))
}

/// The value of a line without its end, or why it is bad.
fn value<T: DeserializeOwned>(key: &str, line: &[u8]) -> Result<T, String> {
    let (crc, value) = line
        .strip_prefix(b"{\"crc\":\"")
        .and_then(|rest| rest.split_at_checked(8))
        .and_then(|(crc, rest)| {
            let value = rest
                .strip_prefix(format!("\",\"{key}\":").as_bytes())?
                .strip_suffix(b"}")?;
            Some((std::str::from_utf8(crc).ok()?, value))
        })
        .ok_or_else(|| format!("it is not a line of a journal ({key})"))?;
    let found = crc32fast::hash(value);
    if u32::from_str_radix(crc, 16) != Ok(found) {
        return Err(format!("its checksum is {found:08x}, {crc} is written"));
    }
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// The lines of entries, ready to be appended.
pub(super) fn lines(entries: &[Entry]) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&line("entry", entry)?);
    }
    Ok(text.into_bytes())
}

/// Reads a journal. `place` is for the errors.
pub(super) fn scan(bytes: &[u8], place: &str) -> Result<Scan, StateError> {
    let mut scan = Scan {
        header: None,
        entries: Vec::new(),
        good: 0,
        torn: 0,
    };
    let corrupt = |number: usize, why: &str| StateError::Corrupt {
        place: place.to_owned(),
        why: format!("line {number}: {why}"),
    };
    // Where the first bad line is, and why it is bad.
    let mut bad: Option<(usize, String)> = None;
    for (number, text) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let whole = text.strip_suffix(b"\n");
        let read = match (whole, number) {
            (None, _) => Err("it has no end".to_owned()),
            (Some(text), 1) => value("journal", text).map(|header| scan.header = Some(header)),
            (Some(text), _) => value("entry", text).map(|entry| {
                if bad.is_none() {
                    scan.entries.push(entry);
                }
            }),
        };
        match (&bad, read) {
            // The first line is synced before the second is written, so a whole bad one was not torn by a crash.
            (None, Err(why)) if number == 1 && whole.is_some() => return Err(corrupt(1, &why)),
            (None, Err(why)) => bad = Some((number, why)),
            (None, Ok(())) => scan.good += text.len() as u64,
            (Some((number, why)), Ok(())) => {
                return Err(corrupt(*number, &format!("{why}, and good lines follow it")));
            }
            (Some(_), Err(_)) => {}
        }
    }
    if let Some(header) = scan
        .header
        .as_ref()
        .filter(|header| header.version == 0 || header.version > u64::from(VERSION))
    {
        if header.version == 0 {
            return Err(corrupt(1, "its version is 0"));
        }
        return Err(StateError::Newer {
            place: place.to_owned(),
            found: header.version,
            known: VERSION,
        });
    }
    scan.torn = bytes.len() as u64 - scan.good;
    Ok(scan)
}

/// Checks that a journal that is not older than the state extends it.
pub(super) fn check(
    header: &Header,
    stack: &StackName,
    state: Option<(Serial, &Lineage)>,
    place: &str,
) -> Result<(), StateError> {
    let serial = state.map_or(Serial(0), |(serial, _)| serial);
    if header.stack != *stack {
        return Err(StateError::OtherStack {
            place: place.to_owned(),
            found: header.stack.clone(),
            expected: stack.clone(),
        });
    }
    let corrupt = |why| {
        Err(StateError::Corrupt {
            place: place.to_owned(),
            why,
        })
    };
    if header.extends > serial {
        let state = match state {
            Some(_) => format!("the state beside it has serial {serial}"),
            None => "there is no state beside it".to_owned(),
        };
        return corrupt(format!(
            "it extends a state of serial {extends}, and {state}: put the state of serial {extends} back, or move this \
             file away and let the next tick find what it had begun by listing the cloud",
            extends = header.extends,
        ));
    }
    match (&header.lineage, state) {
        (Some(theirs), Some((_, ours))) if header.extends == serial && theirs != ours => corrupt(format!(
            "it extends a state of lineage {theirs}, and the state beside it has {ours}"
        )),
        _ => Ok(()),
    }
}

/// The good lines of a journal of an earlier version with the first line of this one.
fn upgraded(header: &Header, bytes: &[u8], good: u64) -> Result<Vec<u8>, serde_json::Error> {
    let header = Header {
        version: u64::from(VERSION),
        ..header.clone()
    };
    let good = usize::try_from(good).unwrap_or(usize::MAX).min(bytes.len());
    let entries = bytes[..good]
        .split_inclusive(|byte| *byte == b'\n')
        .skip(1)
        .flatten();
    let first = line("journal", &header)?.into_bytes();
    Ok(first.into_iter().chain(entries.copied()).collect())
}

/// A journal that is open for appending.
#[derive(Debug)]
pub(super) struct Appender {
    path: PathBuf,
    file: File,
    len: u64,
    base: Serial,
    appends: u64,
}

impl Appender {
    /// Opens the journal that `header` would begin: goes on with it when it is there, replaces an older one.
    /// The state's serial has been checked to be `header.extends`.
    pub(super) fn open(path: &Path, header: &Header) -> Result<Self, StateError> {
        let place = path.display().to_string();
        let mut bytes = read(path)?.unwrap_or_default();
        let mut scan = scan(&bytes, &place)?;
        if let Some(found) = scan
            .header
            .as_ref()
            .filter(|found| found.version < u64::from(VERSION) && found.extends >= header.extends)
        {
            bytes =
                upgraded(found, &bytes, scan.good).map_err(|error| failed("write", path)(error.into()))?;
            replace(path, &bytes)?;
            scan = self::scan(&bytes, &place)?;
        }
        let file = open(path)?;
        let mut appender = Self {
            path: path.to_owned(),
            file,
            len: scan.good,
            base: header.extends,
            appends: 0,
        };
        match &scan.header {
            Some(found) if found.extends >= header.extends => {
                let lineage = header.lineage.as_ref().map(|lineage| (header.extends, lineage));
                check(found, &header.stack, lineage, &place)?;
                if scan.torn > 0 {
                    appender.cut()?;
                }
            }
            _ => appender.begin(header)?,
        }
        Ok(appender)
    }

    /// The serial of the state that it extends.
    pub(super) fn base(&self) -> Serial {
        self.base
    }

    /// How often it was written to and synced.
    #[cfg(test)]
    pub(super) fn appends(&self) -> u64 {
        self.appends
    }

    /// Whether the file at its path is still this one.
    pub(super) fn is_current(&self) -> bool {
        let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| {
            (a.dev(), a.ino(), a.len()) == (b.dev(), b.ino(), b.len())
        };
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => same(&there, &ours) && ours.len() == self.len,
            _ => false,
        }
    }

    /// Appends whole lines; durable when it returns. When that fails, what was written of them is cut off again as
    /// far as the disk allows, and the appender must not be used any more.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), StateError> {
        let appended = self
            .file
            .seek(SeekFrom::Start(self.len))
            .and_then(|_| self.file.write_all(lines))
            .and_then(|()| self.file.sync_data());
        if let Err(error) = appended {
            // Where even this fails, the next reader finds a torn end, or intents that were never acted on.
            let _ = self.cut();
            return Err(failed("write", &self.path)(error));
        }
        self.len += lines.len() as u64;
        self.appends += 1;
        Ok(())
    }

    /// Makes it a journal with a first line and no entry.
    fn begin(&mut self, header: &Header) -> Result<(), StateError> {
        self.len = 0;
        self.cut()?;
        let header = line("journal", header).map_err(|error| failed("write", &self.path)(error.into()))?;
        self.append(header.as_bytes())?;
        sync_folder_of(&self.path)
    }

    /// Cuts off what is behind the last good line.
    fn cut(&self) -> Result<(), StateError> {
        self.file
            .set_len(self.len)
            .and_then(|()| self.file.sync_all())
            .map_err(failed("truncate", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::model::intent::{Intent, Step};

    fn entry(number: i64) -> Entry {
        Entry {
            at: Timestamp::from_second(1_800_000_000 + number).unwrap(),
            intent: format!("i{number}").into(),
            address: "machine.linux/otter".parse().unwrap(),
            step: Step::Begin {
                intent: Intent::Forget { registration: None },
            },
        }
    }

    /// A journal of three entries.
    fn journal() -> Vec<u8> {
        let header = Header::new("prod".into(), Some("lineage".into()), Serial(7));
        let mut bytes = line("journal", &header).unwrap().into_bytes();
        bytes.extend(lines(&[entry(1), entry(2), entry(3)]).unwrap());
        bytes
    }

    fn ends(bytes: &[u8]) -> Vec<usize> {
        (1..=bytes.len()).filter(|at| bytes[at - 1] == b'\n').collect()
    }

    #[test]
    fn a_journal_torn_at_any_byte_reads_as_its_whole_lines() {
        let bytes = journal();
        let ends = ends(&bytes);
        for cut in 0..=bytes.len() {
            let scan = scan(&bytes[..cut], "prod.journal").unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(scan.header.is_some(), whole > 0, "{cut}");
            assert_eq!(scan.entries.len(), whole.saturating_sub(1), "{cut}");
            assert_eq!(
                usize::try_from(scan.good).unwrap(),
                if whole > 0 { ends[whole - 1] } else { 0 },
                "{cut}"
            );
            assert_eq!(scan.good + scan.torn, cut as u64);
        }
    }

    #[test]
    fn a_changed_byte_is_found_and_in_the_middle_it_is_an_error_with_its_line() {
        let bytes = journal();
        let ends = ends(&bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let number = ends.iter().filter(|end| **end <= at).count() + 1;
            match scan(&changed, "prod.journal") {
                Ok(scan) => {
                    // Without the newline between them, the last two lines are one that is torn.
                    let joined = number == 3 && bytes[at] == b'\n';
                    assert!(number == 4 || joined, "byte {at}");
                    let kept = if joined { 1 } else { 2 };
                    assert_eq!(scan.entries, [entry(1), entry(2)][..kept], "byte {at}");
                }
                Err(StateError::Corrupt { why, .. }) => {
                    assert!(number < 4, "byte {at}");
                    assert!(why.starts_with(&format!("line {number}: ")), "byte {at}: {why}");
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }

    #[test]
    fn a_journal_of_a_later_version_is_refused() {
        let mut header = Header::new("prod".into(), None, Serial(7));
        header.version = 3;
        let bytes = line("journal", &header).unwrap().into_bytes();
        assert!(matches!(
            scan(&bytes, "prod.journal"),
            Err(StateError::Newer {
                found: 3,
                known: 2,
                ..
            })
        ));
    }

    #[test]
    fn a_journal_of_an_earlier_version_is_read_and_gets_a_new_first_line_before_it_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prod.journal");
        let header = Header::new("prod".into(), Some("lineage".into()), Serial(7));
        let old = Header {
            version: 1,
            ..header.clone()
        };
        let mut bytes = line("journal", &old).unwrap().into_bytes();
        bytes.extend(lines(&[entry(1), entry(2)]).unwrap());
        let torn = [bytes.clone(), b"{\"crc\":".to_vec()].concat();
        replace(&path, &torn).unwrap();
        assert_eq!(scan(&torn, "prod.journal").unwrap().entries, [entry(1), entry(2)]);
        let mut appender = Appender::open(&path, &header).unwrap();
        appender.append(&lines(&[entry(3)]).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), journal());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = scan(&bytes, "prod.journal");
        }

        #[test]
        fn anything_behind_a_good_journal_is_cut_off_or_refused(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let good = journal();
            let bytes = [good.clone(), tail.clone()].concat();
            let scan = scan(&bytes, "prod.journal").unwrap();
            prop_assert_eq!(scan.entries.len(), 3);
            prop_assert_eq!(scan.good, good.len() as u64);
            prop_assert_eq!(scan.torn, tail.len() as u64);
        }
    }
}
