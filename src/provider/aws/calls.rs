//! Calls to Amazon, whichever service's: bounded in number, their failures decided on in one place, listings followed to a
//! bounded end.

use std::{collections::BTreeMap, fmt};

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::Semaphore;

use crate::{
    model::resource::Completeness,
    net::Priority,
    provider::{ProviderError, aws::failure},
};

use failure::Kind;

/// One part in this many of the calls at once is for deletes alone.
const RESERVED: usize = 10;

/// The most pages of a listing: 20,000 rows of a hundred each, and an end whatever Amazon answers.
const PAGES: usize = 200;

/// Who may call now.
#[derive(Debug)]
pub(in crate::provider::aws) struct Turns {
    all: Semaphore,
    /// Those that are not deletes.
    normal: Semaphore,
}

/// What went wrong with a call, and Amazon's code for it, where Amazon answered.
#[derive(Clone, Debug)]
pub(in crate::provider::aws) struct Failed {
    pub(in crate::provider::aws) code: Option<String>,
    pub(in crate::provider::aws) error: ProviderError,
}

impl Failed {
    pub(in crate::provider::aws) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    pub(in crate::provider::aws) fn is_one_of(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.is(code))
    }
}

impl From<Failed> for ProviderError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl Turns {
    pub(in crate::provider::aws) fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            all: Semaphore::new(concurrency),
            normal: Semaphore::new((concurrency - concurrency / RESERVED).max(1)),
        }
    }

    /// Waits for its turn, sends, and says what an error means. Deletes find a turn even while everything else waits.
    pub(in crate::provider::aws) fn send<'a, T, E, R>(
        &'a self,
        kind: Kind,
        priority: Priority,
        call: impl Future<Output = Result<T, SdkError<E, R>>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failed>>
    where
        T: Send + 'a,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'a,
    {
        // The SDK's futures are large: here they end, and are carried about no further.
        let call = call.boxed();
        async move {
            // Neither is ever closed, so that a turn always comes.
            let _normal = match priority {
                Priority::Normal => self.normal.acquire().await.ok(),
                Priority::Delete => None,
            };
            let _turn = self.all.acquire().await.ok();
            call.await.map_err(|error| Failed {
                code: error.code().map(str::to_owned),
                error: failure::of(kind, &error),
            })
        }
        .boxed()
    }

    /// A call that only reads.
    pub(in crate::provider::aws) fn read<'a, T, E, R>(
        &'a self,
        call: impl Future<Output = Result<T, SdkError<E, R>>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failed>>
    where
        T: Send + 'a,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'a,
    {
        self.send(Kind::Read, Priority::Normal, call)
    }

    /// A call that makes or changes something.
    pub(in crate::provider::aws) fn write<'a, T, E, R>(
        &'a self,
        call: impl Future<Output = Result<T, SdkError<E, R>>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failed>>
    where
        T: Send + 'a,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'a,
    {
        self.send(Kind::Write, Priority::Normal, call)
    }
}

/// What a listing of several pages came to.
#[derive(Debug)]
pub(in crate::provider::aws) struct Pages<T> {
    /// Each once.
    pub(in crate::provider::aws) rows: Vec<T>,
    pub(in crate::provider::aws) completeness: Completeness,
}

/// Follows a listing from page to page: `ask` takes the token of a page and answers its rows, each with its id, and the next
/// page's token. A later page that fails makes it partial.
///
/// # Errors
/// What the first page's failure means.
pub(in crate::provider::aws) async fn pages<T, F>(
    mut ask: impl FnMut(Option<String>) -> F,
) -> Result<Pages<T>, Failed>
where
    F: Future<Output = Result<(Vec<(String, T)>, Option<String>), Failed>>,
{
    let mut rows: BTreeMap<String, T> = BTreeMap::new();
    let mut token: Option<String> = None;
    for asked in 0..PAGES {
        let (page, next) = match ask(token.clone()).await {
            Ok(answer) => answer,
            Err(failed) if asked == 0 => return Err(failed),
            Err(failed) => {
                let why = format!("page {} could not be read: {}", asked + 1, failed.error);
                return Ok(listed(rows, Completeness::partial(why)));
            }
        };
        rows.extend(page);
        // An empty token is an end, too: EC2 sends one.
        let next = next.filter(|next| !next.is_empty());
        if next.is_none() {
            return Ok(listed(rows, Completeness::Complete));
        }
        if next == token {
            let why = "the same page was named as the next one";
            return Ok(listed(rows, Completeness::partial(why)));
        }
        token = next;
    }
    let why = format!("more than {PAGES} pages");
    Ok(listed(rows, Completeness::partial(why)))
}

fn listed<T>(rows: BTreeMap<String, T>, completeness: Completeness) -> Pages<T> {
    Pages {
        rows: rows.into_values().collect(),
        completeness,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Failed {
        Failed {
            code: None,
            error: ProviderError::Unavailable { why: "no".to_owned() },
        }
    }

    type Answer = Result<(Vec<(String, u32)>, Option<String>), Failed>;

    async fn follow(answer: fn(usize) -> Answer) -> (Result<Pages<u32>, Failed>, usize) {
        let mut asked = 0;
        let pages = pages(|_| {
            let answer = answer(asked);
            asked += 1;
            async { answer }
        })
        .await;
        (pages, asked)
    }

    fn row(n: usize) -> Vec<(String, u32)> {
        vec![(format!("i-{n}"), 1)]
    }

    #[tokio::test]
    async fn a_listing_ends_though_a_next_page_is_named_for_ever() {
        let (pages, asked) = follow(|n| Ok((row(n), Some(format!("{n}"))))).await;
        assert_eq!(asked, PAGES);
        let pages = pages.unwrap();
        assert_eq!(pages.rows.len(), PAGES);
        assert!(!pages.completeness.is_complete());
    }

    #[tokio::test]
    async fn the_same_page_again_ends_it_and_is_not_taken_for_whole() {
        let (pages, asked) = follow(|_| Ok((row(0), Some("same".to_owned())))).await;
        assert_eq!(asked, 2);
        let pages = pages.unwrap();
        assert_eq!(pages.rows.len(), 1, "each once");
        assert!(!pages.completeness.is_complete());
    }

    #[tokio::test]
    async fn a_later_page_that_fails_makes_it_partial_and_the_first_one_is_an_error() {
        let answer = |n: usize| match n {
            0 => Ok((row(0), Some("1".to_owned()))),
            _ => Err(failed()),
        };
        let (pages, _) = follow(answer).await;
        let pages = pages.unwrap();
        assert_eq!((pages.rows.len(), pages.completeness.is_complete()), (1, false));
        let (pages, _) = follow(|_| Err(failed())).await;
        assert!(pages.is_err());
        let (pages, _) = follow(|_| Ok((row(0), Some(String::new())))).await;
        assert!(
            pages.unwrap().completeness.is_complete(),
            "an empty token is the end"
        );
    }
}
