//! Reads a paged listing, and says whether it is whole.
//!
//! A listing is whole only if every page gives the same total and the distinct ids add up to it. Pages after the first are read
//! concurrently. Whatever a server says of its pages, no more than [`MAX_PAGES`] are read.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::resource::Completeness,
    net::{Reply, Request},
};

use super::{
    api::{Api, Failed, decode},
    wire::{Page, Row},
};

/// The most rows that the API puts on a page.
pub(super) const PER_PAGE: u64 = 200;

/// 100,000 rows: twice the largest fleet that runfleet is measured with.
const MAX_PAGES: u64 = 500;

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

struct Collected<T> {
    path: String,
    rows: BTreeMap<String, T>,
    total: Option<u64>,
    flaw: Option<String>,
    now: Option<Timestamp>,
    calls: u32,
}

impl<T: Row> Collected<T> {
    /// The first flaw is the one that is told.
    fn flawed(&mut self, why: String) {
        self.flaw.get_or_insert(why);
    }

    fn add(&mut self, number: u64, page: Read<T>) {
        self.now = self.now.max(page.date);
        if let Some(why) = page.not_understood {
            self.flawed(format!("{} page {number}: {why}", self.path));
        }
        match (self.total, page.total) {
            (_, None) => self.flawed(format!("{} page {number} gives no total", self.path)),
            (Some(before), Some(now)) if before != now => {
                self.flawed(format!(
                    "{}: the total changed from {before} to {now} while it was read",
                    self.path
                ));
            }
            (_, total) => self.total = total,
        }
        self.rows.extend(page.rows.into_iter().map(|row| (row.id(), row)));
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

struct Read<T> {
    rows: Vec<T>,
    total: Option<u64>,
    not_understood: Option<String>,
    date: Option<Timestamp>,
}

/// Every page of this listing.
///
/// # Errors
/// When the first page cannot be read; a later one makes it partial.
pub(super) async fn all<T: Row>(api: &Api, request: Request) -> Result<Pages<T>, Failed> {
    let request = request.query("per_page", PER_PAGE.to_string());
    let first = read(api, &request, 1).await?;
    let total = first.total.unwrap_or_default();
    let mut all = Collected {
        path: request.path.clone(),
        rows: BTreeMap::new(),
        total: None,
        flaw: None,
        now: None,
        calls: 1,
    };
    all.add(1, first);
    let last = total.div_ceil(PER_PAGE);
    if last > MAX_PAGES {
        all.flawed(format!(
            "{} has {last} pages, and {MAX_PAGES} are read at most",
            request.path
        ));
    }
    let asked = &request;
    let mut pages = stream::iter(2..=last.min(MAX_PAGES))
        .map(|number| async move { (number, read(api, asked, number).await) })
        .buffer_unordered(AT_ONCE);
    while let Some((number, page)) = pages.next().await {
        all.calls += 1;
        match page {
            Ok(page) => all.add(number, page),
            Err(error) => {
                let why = error.of_read();
                all.flawed(format!("{} page {number}: {why}", asked.path));
            }
        }
    }
    drop(pages);
    Ok(all.finish())
}

async fn read<T: Row>(api: &Api, request: &Request, number: u64) -> Result<Read<T>, Failed> {
    let reply = api
        .call(request.clone().query("page", number.to_string()))
        .await?;
    match reply.json::<Page<T>>() {
        Ok(page) => Ok(Read {
            rows: page.rows,
            total: page.meta.total,
            not_understood: None,
            date: reply.date,
        }),
        Err(_) => read_row_by_row(&reply, &request.path),
    }
}

/// The rows that can be understood, where one cannot.
fn read_row_by_row<T: Row>(reply: &Reply, path: &str) -> Result<Read<T>, Failed> {
    let page: Page<Value> = decode(reply, path)?;
    let mut not_understood = None;
    let mut rows = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        let id = row.get("id").cloned().unwrap_or_default();
        match T::deserialize(row) {
            Ok(row) => rows.push(row),
            Err(error) => {
                not_understood.get_or_insert(format!("row with id {id} cannot be understood: {error}"));
            }
        }
    }
    Ok(Read {
        rows,
        total: page.meta.total,
        not_understood,
        date: reply.date,
    })
}
