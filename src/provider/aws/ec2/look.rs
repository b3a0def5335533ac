//! Looks at instances, many at a time: what dozens of creates want to know in one moment is one request.
//!
//! # Expected flow
//! Whoever asks first waits [`WINDOW`] for others, takes all that was asked meanwhile, asks EC2 once per kind of question, and
//! answers everybody. Whoever asks while that goes on begins the next round.
//!
//! # Guarantees
//! - One that gives up while it asks for all leaves nobody behind: they ask anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_ec2::types::{Filter, Instance};
use futures::future;
use tokio::sync::oneshot;

use crate::{
    model::resource::{ClaimLabels, Completeness},
    provider::ProviderError,
};

use super::{
    api::{Api, Failed, PAGE, filter, pages},
    wire::{self, LIVE},
};

/// How long the first waits for others: far less than a launch takes.
const WINDOW: Duration = Duration::from_millis(50);

/// The most values of a filter. Source: EC2 API reference, "Filter".
const VALUES: usize = 200;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    /// The instance with this id, whatever it does.
    Id(String),
    /// Those of a stack's claim that live.
    Claim { stack: String, id: String },
}

type Answer = Result<Vec<Instance>, ProviderError>;

/// Asks for many.
#[derive(Debug)]
pub(super) struct Looks {
    api: Arc<Api>,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Whether somebody asks for all.
    led: bool,
    waiting: BTreeMap<Question, Vec<oneshot::Sender<Answer>>>,
}

impl Looks {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self {
            api,
            asked: Mutex::default(),
        }
    }

    /// The instance with this id; none when EC2 does not tell of it, which right after its launch means nothing.
    pub(super) async fn by_id(&self, id: &str) -> Result<Option<Instance>, ProviderError> {
        Ok(self.ask(Question::Id(id.to_owned())).await?.pop())
    }

    /// The instances that live and carry a stack's name and this id, of whatever lineage and pool.
    pub(super) async fn by_claim(&self, labels: &ClaimLabels) -> Result<Vec<Instance>, ProviderError> {
        let question = Question::Claim {
            stack: labels.stack.to_string(),
            id: labels.id.clone(),
        };
        self.ask(question).await
    }

    async fn ask(&self, question: Question) -> Answer {
        loop {
            let (sender, receiver) = oneshot::channel();
            let leads = {
                let mut asked = self.lock();
                asked.waiting.entry(question.clone()).or_default().push(sender);
                !std::mem::replace(&mut asked.led, true)
            };
            if leads {
                self.lead().await;
            }
            // Who asked for all may have given up: then nobody answers, and it is asked anew.
            if let Ok(answer) = receiver.await {
                return answer;
            }
        }
    }

    async fn lead(&self) {
        let mut leading = Leading {
            looks: self,
            took: false,
        };
        tokio::time::sleep(WINDOW).await;
        let round = leading.take();
        let mut ids = Vec::new();
        let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for question in round.keys() {
            match question {
                Question::Id(id) => ids.push(id.clone()),
                Question::Claim { stack, id } => claims.entry(stack.clone()).or_default().push(id.clone()),
            }
        }
        let by_id = ids.chunks(VALUES).map(|ids| self.of_ids(ids));
        let by_claim = claims
            .iter()
            .flat_map(|(stack, ids)| ids.chunks(VALUES).map(move |ids| self.of_claims(stack, ids)));
        let (by_id, by_claim) = future::join(future::join_all(by_id), future::join_all(by_claim)).await;
        let found: BTreeMap<Question, Answer> = by_id.into_iter().chain(by_claim).flatten().collect();
        for (question, waiting) in round {
            let answer = found.get(&question).cloned().unwrap_or_else(|| Ok(Vec::new()));
            for sender in waiting {
                // Who gave up meanwhile does not want to know.
                let _ = sender.send(answer.clone());
            }
        }
    }

    async fn of_ids(&self, ids: &[String]) -> Vec<(Question, Answer)> {
        let answer = self.describe(vec![filter("instance-id", ids)]).await;
        let question = |id: &String| Question::Id(id.clone());
        sorted(ids, question, &answer, |instance| instance.instance_id())
    }

    async fn of_claims(&self, stack: &str, ids: &[String]) -> Vec<(Question, Answer)> {
        let filters = vec![
            filter(&format!("tag:{}", ClaimLabels::STACK), [stack]),
            filter("tag:runfleet-id", ids),
            filter("instance-state-name", LIVE),
        ];
        let answer = self.describe(filters).await;
        let question = |id: &String| Question::Claim {
            stack: stack.to_owned(),
            id: id.clone(),
        };
        sorted(ids, question, &answer, |instance| {
            wire::tag(instance.tags(), "runfleet-id")
        })
    }

    async fn describe(&self, filters: Vec<Filter>) -> Answer {
        let ask = |token: Option<String>| {
            let call = self.api.ec2.describe_instances();
            let call = call.set_filters(Some(filters.clone())).max_results(PAGE);
            async {
                let answer = self.api.read(call.set_next_token(token).send()).await?;
                Ok::<_, Failed>((wire::instances(&answer), answer.next_token))
            }
        };
        let pages = pages(ask).await?;
        match pages.completeness {
            Completeness::Complete => Ok(pages.rows),
            Completeness::Partial { why } => Err(ProviderError::Unavailable { why }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each question its part of an answer.
fn sorted<'a>(
    ids: &'a [String],
    question: impl Fn(&String) -> Question,
    answer: &'a Answer,
    key: impl Fn(&'a Instance) -> Option<&'a str>,
) -> Vec<(Question, Answer)> {
    match answer {
        Err(error) => ids.iter().map(|id| (question(id), Err(error.clone()))).collect(),
        Ok(instances) => {
            let asked: BTreeSet<&String> = ids.iter().collect();
            let mut parts: BTreeMap<&String, Vec<Instance>> = BTreeMap::new();
            for instance in instances {
                if let Some(id) = key(instance).and_then(|id| asked.get(&id.to_owned())) {
                    parts.entry(id).or_default().push(instance.clone());
                }
            }
            ids.iter()
                .map(|id| (question(id), Ok(parts.remove(id).unwrap_or_default())))
                .collect()
        }
    }
}

/// Asking for all. One that is given up before it took what was asked lets everybody ask anew.
struct Leading<'a> {
    looks: &'a Looks,
    took: bool,
}

impl Leading<'_> {
    /// What was asked until now. Whoever asks from now on is led by another.
    fn take(&mut self) -> BTreeMap<Question, Vec<oneshot::Sender<Answer>>> {
        self.took = true;
        let mut asked = self.looks.lock();
        asked.led = false;
        std::mem::take(&mut asked.waiting)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if !self.took {
            self.take();
        }
    }
}
