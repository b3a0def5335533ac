//! Listings, page by page, by both of GitLab's ways: keyset (a `Link` only) and offset (with `X-Total`).
//!
//! A listing is whole only if its last page was reached, every page gave the same total, and the distinct ids add up to
//! it. What was read before it broke is kept, with why it broke.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header::LINK};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    api::{Api, Effect, Query, decode, get, refusal},
    wire::Listed,
};
use crate::demand::DemandError;

/// Most pages that a listing is followed for, whatever the server says: at 100 a page, four times the 50,000 runners
/// that runfleet is measured with.
const MOST_PAGES: u32 = 2000;
/// Pages of one listing that are asked for at once: with them a hundred pages take a dozen answer times, and a small
/// GitLab still has workers for others.
const AT_ONCE: usize = 8;
/// The parameter that numbers a page.
const PAGE: &str = "page";

/// Why a listing is not whole.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// What went wrong.
    pub error: DemandError,
    /// The status of the page that failed, if one answered.
    pub status: Option<StatusCode>,
}

impl Broken {
    fn odd(why: impl Into<String>) -> Self {
        Self {
            error: DemandError::Malformed { why: why.into() },
            status: None,
        }
    }
}

impl From<DemandError> for Broken {
    fn from(error: DemandError) -> Self {
        Self { error, status: None }
    }
}

/// What was read of a listing.
#[derive(Debug)]
pub(super) struct Pages<T> {
    /// By id, each once.
    pub items: BTreeMap<u64, T>,
    /// Pages that were read.
    pub read: u32,
    /// Why that is not all; none when it is.
    pub broken: Option<Broken>,
    /// The answering server's clock, at the last page that was read.
    pub date: Option<Timestamp>,
}

impl<T> Pages<T> {
    /// Of a listing that was not asked for.
    pub(super) fn none() -> Self {
        Self {
            items: BTreeMap::new(),
            read: 0,
            broken: None,
            date: None,
        }
    }

    /// The items, if they are all.
    pub(super) fn whole(self) -> Result<BTreeMap<u64, T>, DemandError> {
        match self.broken {
            None => Ok(self.items),
            Some(broken) => Err(broken.error),
        }
    }
}

/// Goes from page to page.
pub(super) struct Pager<'a> {
    api: &'a Api,
    next: Option<(String, Query)>,
    deadline: Instant,
    /// What the first page said.
    total: Option<u64>,
    read: u32,
    date: Option<Timestamp>,
}

/// One page.
struct Page<T> {
    items: Vec<T>,
    total: Option<u64>,
    date: Option<Timestamp>,
    next: Option<(String, Query)>,
    /// How many pages there are, where the listing has numbers and the server counts.
    pages: Option<u64>,
}

impl<'a> Pager<'a> {
    pub(super) fn new(api: &'a Api, path: &str, query: Query, deadline: Instant) -> Self {
        Self {
            api,
            next: Some((path.to_owned(), query)),
            deadline,
            total: None,
            read: 0,
            date: None,
        }
    }

    /// The next page; none after the last.
    pub(super) async fn page<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, Broken> {
        let Some((path, query)) = self.next.take() else {
            return Ok(None);
        };
        let page = self.fetch(&path, &query).await?;
        self.take(page).map(Some)
    }

    /// The first page, and with it those that it lets us number, some at a time: each costs the server's answer
    /// time, and a fleet of thousands has a hundred. What remains is for [`Self::page`].
    async fn numbered<T: DeserializeOwned + Listed>(
        &mut self,
        items: &mut BTreeMap<u64, T>,
    ) -> Result<(), Broken> {
        let Some((path, query)) = self.next.take() else {
            return Ok(());
        };
        let first = self.fetch::<T>(&path, &query).await?;
        let second = first.next.as_ref().map(|(_, query)| query.clone());
        let last = first.pages.map(|last| last.min(u64::from(MOST_PAGES)));
        keep(items, self.take(first)?);
        let Some(second) = second.filter(|query| value(query, PAGE) == Some("2")) else {
            return Ok(());
        };
        match last {
            Some(last) if last > 2 => {
                let mut pages = self.many::<T>(&path, &second, 2..=last);
                while let Some(page) = pages.next().await {
                    keep(items, self.take(page?)?);
                }
                Ok(())
            }
            Some(_) => Ok(()),
            None => self.uncounted(&path, &second, items).await,
        }
    }

    /// Above 10,000 GitLab counts no more: some pages are asked for at once all the same, until one names no next. Those
    /// behind it are empty, and cost a few calls.
    async fn uncounted<T: DeserializeOwned + Listed>(
        &mut self,
        path: &str,
        second: &Query,
        items: &mut BTreeMap<u64, T>,
    ) -> Result<(), Broken> {
        let step = AT_ONCE as u64;
        let mut from = 2;
        while self.has_next() && from + step <= u64::from(MOST_PAGES) {
            let mut pages = self.many::<T>(path, second, from..=from + step - 1);
            while let Some(page) = pages.next().await {
                let before = items.len();
                keep(items, self.take(page?)?);
                if !self.has_next() {
                    break;
                }
                if items.len() == before {
                    return Err(nothing_new());
                }
            }
            from += step;
        }
        Ok(())
    }

    /// Pages by their numbers, some at a time, in their order. The query is the server's own, so that whatever it put
    /// there stays.
    fn many<'b, T: DeserializeOwned + 'b>(
        &self,
        path: &'b str,
        query: &'b Query,
        numbers: std::ops::RangeInclusive<u64>,
    ) -> impl stream::Stream<Item = Result<Page<T>, Broken>> + Unpin + use<'a, 'b, T>
    where
        'a: 'b,
    {
        let (api, deadline) = (self.api, self.deadline);
        let pages = stream::iter(numbers)
            .map(move |number| {
                let mut query = query.clone();
                query.retain(|(key, _)| key != PAGE);
                query.push((PAGE.to_owned(), number.to_string()));
                async move { fetch::<T>(api, path, &query, deadline).await }
            })
            .buffered(AT_ONCE);
        Box::pin(pages)
    }

    async fn fetch<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<Page<T>, Broken> {
        fetch(self.api, path, query, self.deadline).await
    }

    /// Holds a page against those before it.
    fn take<T>(&mut self, page: Page<T>) -> Result<Vec<T>, Broken> {
        self.read += 1;
        self.date = page.date.max(self.date);
        if self.read == 1 {
            self.total = page.total;
        } else if self.total != page.total {
            return Err(Broken::odd(format!(
                "the total changed between pages: {} and then {}",
                shown(self.total),
                shown(page.total)
            )));
        }
        self.next = page.next;
        Ok(page.items)
    }

    /// The answering server's clock.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.date
    }

    /// Pages that were read.
    pub(super) fn read(&self) -> u32 {
        self.read
    }

    fn has_next(&self) -> bool {
        self.next.is_some()
    }
}

/// Reads a whole listing, as far as it can be read.
pub(super) async fn list<T: DeserializeOwned + Listed>(
    api: &Api,
    path: &str,
    query: Query,
    deadline: Instant,
) -> Pages<T> {
    let mut pager = Pager::new(api, path, query, deadline);
    let mut items = BTreeMap::new();
    let broken = collect(&mut pager, &mut items).await.err();
    Pages {
        items,
        read: pager.read(),
        broken,
        date: pager.date(),
    }
}

async fn fetch<T: DeserializeOwned>(
    api: &Api,
    path: &str,
    query: &Query,
    deadline: Instant,
) -> Result<Page<T>, Broken> {
    let request = get(path, query.clone());
    let reply = timeout_at(deadline, api.send(request))
        .await
        .map_err(|_| DemandError::Unavailable {
            why: "the time that one observation may take is over".to_owned(),
        })??;
    if !reply.status.is_success() {
        return Err(Broken {
            status: Some(reply.status),
            error: refusal(&reply, Effect::Read),
        });
    }
    let next = next(api.base(), &reply.headers, path, query)?;
    if next
        .as_ref()
        .is_some_and(|(to, with)| to == path && with == query)
    {
        return Err(Broken::odd("the link to the next page leads to the same page"));
    }
    Ok(Page {
        items: decode(&reply)?,
        total: number(&reply.headers, "x-total"),
        date: reply.date,
        next,
        pages: number(&reply.headers, "x-total-pages"),
    })
}

fn nothing_new() -> Broken {
    Broken::odd("a page brought nothing new, and yet names a next one")
}

fn keep<T: Listed>(items: &mut BTreeMap<u64, T>, page: Vec<T>) {
    items.extend(page.into_iter().map(|item| (item.id(), item)));
}

fn value<'a>(query: &'a Query, key: &str) -> Option<&'a str> {
    let found = query.iter().find(|(known, _)| known == key);
    found.map(|(_, value)| value.as_str())
}

async fn collect<T: DeserializeOwned + Listed>(
    pager: &mut Pager<'_>,
    items: &mut BTreeMap<u64, T>,
) -> Result<(), Broken> {
    pager.numbered(items).await?;
    while pager.has_next() {
        if pager.read() >= MOST_PAGES {
            return Err(Broken::odd(format!("more than {MOST_PAGES} pages")));
        }
        let before = items.len();
        keep(items, pager.page::<T>().await?.unwrap_or_default());
        if pager.has_next() && items.len() == before {
            return Err(nothing_new());
        }
    }
    let seen = u64::try_from(items.len()).unwrap_or(u64::MAX);
    match pager.total {
        Some(total) if total != seen => Err(Broken::odd(format!("{seen} of {total} were listed"))),
        _ => Ok(()),
    }
}

/// Where the next page is: as `Link` says, or `X-Next-Page` where a proxy took the link away.
fn next(
    base: &Url,
    headers: &HeaderMap,
    path: &str,
    query: &Query,
) -> Result<Option<(String, Query)>, Broken> {
    let link = headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(next_link);
    if let Some(link) = link {
        return follow(base, link).map(Some);
    }
    let Some(page) = number(headers, "x-next-page") else {
        return Ok(None);
    };
    let mut query: Query = query.iter().filter(|(key, _)| key != "page").cloned().collect();
    query.push(("page".to_owned(), page.to_string()));
    Ok(Some((path.to_owned(), query)))
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    header.split('<').skip(1).find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        parameters
            .split([';', ','])
            .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"))
            .then_some(target)
    })
}

/// A link's path and query, if it leads to the host and below the address that was asked.
fn follow(base: &Url, link: &str) -> Result<(String, Query), Broken> {
    let elsewhere = || Broken::odd("the link to the next page leads to another server");
    let url = base.join(link).map_err(|_| elsewhere())?;
    if url.host_str() != base.host_str() || url.port() != base.port() {
        return Err(elsewhere());
    }
    let path = url
        .path()
        .strip_prefix(base.path().trim_end_matches('/'))
        .filter(|path| path.starts_with('/'))
        .ok_or_else(elsewhere)?;
    Ok((path.to_owned(), url.query_pairs().into_owned().collect()))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn shown(total: Option<u64>) -> String {
    total.map_or_else(|| "none".to_owned(), |total| total.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        let header = "<https://g/api/v4/x?page=1>; rel=\"first\", <https://g/api/v4/x?page=3>; rel=\"next\"";
        assert_eq!(next_link(header), Some("https://g/api/v4/x?page=3"));
        assert_eq!(next_link("<https://g/x>; rel=\"prev\""), None);
    }

    #[test]
    fn a_link_is_followed_only_below_the_address_that_was_asked() {
        let base = Url::parse("https://git.example.com/lab/api/v4").unwrap();
        let (path, query) = follow(
            &base,
            "https://git.example.com/lab/api/v4/projects/a%2Fb/jobs?scope%5B%5D=pending",
        )
        .unwrap();
        assert_eq!(path, "/projects/a%2Fb/jobs");
        assert_eq!(query, [("scope[]".to_owned(), "pending".to_owned())]);
        for elsewhere in [
            "https://evil.example.com/lab/api/v4/projects",
            "https://git.example.com:8443/lab/api/v4/projects",
            "https://git.example.com/other/projects",
            "https://git.example.com/lab/api/v40/projects",
        ] {
            assert!(follow(&base, elsewhere).is_err(), "{elsewhere}");
        }
    }
}
