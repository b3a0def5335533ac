//! Reads a listing whose pages have numbers, and says whether it is whole.
//!
//! A listing is whole only if every page gives the same total and the distinct ids add up to it. Pages after the first are read
//! concurrently. Whatever a server says of its pages, no more than [`MAX_ROWS`] are asked for.
//!
//! How a page is asked for, and where it says how it stands among the others, is each cloud's own `pages`.

use std::{collections::BTreeMap, future::Future};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{model::resource::Completeness, provider::ProviderError};

/// Twice the largest fleet that runfleet is measured with.
const MAX_ROWS: u64 = 100_000;

/// How many pages are read at once; the client's own bound holds too.
const AT_ONCE: usize = 16;

/// All that was read.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pub(super) rows: Vec<T>,
    pub(super) completeness: Completeness,
    /// The latest of the answers' clocks.
    pub(super) now: Option<Timestamp>,
    pub(super) calls: u32,
}

impl<T> Pages<T> {
    /// These rows as others.
    pub(super) fn map<U>(self, of: impl FnMut(T) -> U) -> Pages<U> {
        Pages {
            rows: self.rows.into_iter().map(of).collect(),
            completeness: self.completeness,
            now: self.now,
            calls: self.calls,
        }
    }
}

/// One page.
#[derive(Debug)]
pub(super) struct Read<Id, T> {
    /// By what tells each from the others.
    pub(super) rows: BTreeMap<Id, T>,
    pub(super) position: Position,
    /// Of the first row that was left out, why.
    pub(super) not_understood: Option<String>,
    /// The answering server's clock.
    pub(super) date: Option<Timestamp>,
}

/// How a page says that it stands among the others; nothing of what an API does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// Its own number.
    pub(super) page: Option<u64>,
    /// The next page's number.
    pub(super) next: Option<u64>,
    /// The last page's number.
    pub(super) last: Option<u64>,
    /// How many rows all pages have.
    pub(super) total: Option<u64>,
}

struct Collected<Id, T> {
    path: String,
    rows: BTreeMap<Id, T>,
    total: Option<u64>,
    flaw: Option<String>,
    now: Option<Timestamp>,
    calls: u32,
}

impl<Id: Ord, T> Collected<Id, T> {
    /// The first flaw is the one that is told.
    fn flawed(&mut self, why: String) {
        self.flaw.get_or_insert(why);
    }

    fn add(&mut self, number: u64, page: Read<Id, T>) {
        let at = page.position;
        self.now = self.now.max(page.date);
        if let Some(why) = page.not_understood {
            self.flawed(format!("{} page {number}: {why}", self.path));
        }
        if let Some(got) = at.page.filter(|got| *got != number) {
            self.flawed(format!("{}: asked for page {number}, got page {got}", self.path));
        }
        match (self.total, at.total) {
            (_, None) => self.flawed(format!("{} page {number} gives no total", self.path)),
            (Some(before), Some(now)) if before != now => {
                self.flawed(format!(
                    "{}: the total changed from {before} to {now} while it was read",
                    self.path
                ));
            }
            (_, total) => self.total = total,
        }
        self.rows.extend(page.rows);
    }

    fn finish(mut self) -> Pages<T> {
        let seen = self.rows.len() as u64;
        if let Some(total) = self.total.filter(|total| *total != seen) {
            self.flawed(format!("{}: {seen} of {total} were listed", self.path));
        }
        Pages {
            rows: self.rows.into_values().collect(),
            completeness: self.flaw.map_or(Completeness::Complete, Completeness::partial),
            now: self.now,
            calls: self.calls,
        }
    }
}

/// Every page of the listing at this path. `read` asks for the page of a number, the first of which is 1, with up to `per_page` rows;
/// `meaning` says what it means that it could not be read.
///
/// # Errors
/// When the first page cannot be read; a later one makes it partial.
pub(super) async fn all<Id: Ord, T, E, F>(
    path: &str,
    per_page: u64,
    read: impl Fn(u64) -> F,
    meaning: impl Fn(E) -> ProviderError,
) -> Result<Pages<T>, E>
where
    F: Future<Output = Result<Read<Id, T>, E>>,
{
    let first = read(1).await?;
    let at = first.position;
    let mut all = Collected {
        path: path.to_owned(),
        rows: BTreeMap::new(),
        total: None,
        flaw: None,
        now: None,
        calls: 1,
    };
    all.add(1, first);
    let last = at.last.or(at.total.map(|total| total.div_ceil(per_page)));
    let last = last.max(at.next).unwrap_or(1);
    let most = MAX_ROWS / per_page;
    if last > most {
        all.flawed(format!("{path} has {last} pages, and {most} are read at most"));
    }
    let read = &read;
    let mut pages = stream::iter(2..=last.min(most))
        .map(|number| async move { (number, read(number).await) })
        .buffer_unordered(AT_ONCE);
    while let Some((number, page)) = pages.next().await {
        all.calls += 1;
        match page {
            Ok(page) => all.add(number, page),
            Err(error) => all.flawed(format!("{path} page {number}: {}", meaning(error))),
        }
    }
    drop(pages);
    Ok(all.finish())
}

/// The rows that can be understood, where one cannot; and why the first of the others cannot.
pub(super) fn row_by_row<T: DeserializeOwned>(rows: Vec<Value>) -> (Vec<T>, Option<String>) {
    let mut not_understood = None;
    let mut understood = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.get("id").cloned().unwrap_or_default();
        match T::deserialize(row) {
            Ok(row) => understood.push(row),
            Err(error) => {
                not_understood.get_or_insert(format!("row with id {id} cannot be understood: {error}"));
            }
        }
    }
    (understood, not_understood)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A server's answer to each number.
    type Server = fn(u64) -> Result<Read<u64, u64>, String>;

    fn page(rows: &[u64], position: Position) -> Read<u64, u64> {
        Read {
            rows: rows.iter().map(|row| (*row, *row)).collect(),
            position,
            not_understood: None,
            date: None,
        }
    }

    fn of(total: u64) -> Position {
        Position {
            total: Some(total),
            ..Position::default()
        }
    }

    fn meaning(why: String) -> ProviderError {
        ProviderError::Unavailable { why }
    }

    /// What is read of this server, two rows a page.
    async fn read(server: Server) -> Result<Pages<u64>, String> {
        all("/things", 2, |number| async move { server(number) }, meaning).await
    }

    #[tokio::test]
    async fn pages_that_add_up_to_their_total_are_whole() {
        let pages = read(|number| Ok(page(&[number * 2, number * 2 + 1], of(6))))
            .await
            .unwrap();
        assert_eq!(pages.rows, [2, 3, 4, 5, 6, 7]);
        assert_eq!(pages.completeness, Completeness::Complete);
        assert_eq!(pages.calls, 3);
    }

    #[tokio::test]
    async fn whatever_does_not_add_up_is_told() {
        let cases: [(Server, &str); 6] = [
            (|_| Ok(page(&[1, 2], of(4))), "/things: 2 of 4 were listed"),
            (
                |number| Ok(page(&[number], of(2 + number))),
                "/things: the total changed from 3 to 4 while it was read",
            ),
            (
                |_| Ok(page(&[1], Position::default())),
                "/things page 1 gives no total",
            ),
            (
                |_| {
                    let mut at = of(1);
                    at.page = Some(2);
                    Ok(page(&[1], at))
                },
                "/things: asked for page 1, got page 2",
            ),
            (
                |number| match number {
                    1 => Ok(page(&[1, 2], of(3))),
                    _ => Err("down".to_owned()),
                },
                "/things page 2: ",
            ),
            (
                |number| {
                    let mut at = of(1);
                    at.next = Some(2);
                    Ok(page(&[number], at))
                },
                "/things: 2 of 1 were listed",
            ),
        ];
        for (server, why) in cases {
            let completeness = read(server).await.unwrap().completeness;
            assert!(
                format!("{completeness:?}").contains(why),
                "{completeness:?}: {why}"
            );
        }
        assert_eq!(read(|_| Err("down".to_owned())).await.unwrap_err(), "down");
    }

    #[tokio::test]
    async fn a_server_that_says_that_it_has_no_end_is_left_at_some_time() {
        let asked = AtomicU64::new(0);
        let read = |number| {
            asked.fetch_add(1, Ordering::Relaxed);
            let mut at = of(1);
            at.last = Some(u64::MAX);
            async move { Ok(page(&[number], at)) }
        };
        let pages = all("/things", 50, read, meaning).await.unwrap();
        assert_eq!(asked.into_inner(), 2000);
        let why = format!("{:?}", pages.completeness);
        assert!(why.contains("and 2000 are read at most"), "{why}");
    }

    #[test]
    fn a_row_that_cannot_be_understood_takes_no_other_with_it() {
        #[derive(serde::Deserialize)]
        struct Row {
            n: u64,
        }
        let rows = serde_json::json!([{"id": 1, "n": 1}, {"id": 2, "n": "x"}, {"id": 3, "n": 3}]);
        let (rows, why) = row_by_row::<Row>(serde_json::from_value(rows).unwrap());
        assert_eq!(rows.iter().map(|row| row.n).collect::<Vec<_>>(), [1, 3]);
        assert!(why.unwrap().starts_with("row with id 2 cannot be understood"));
    }
}
