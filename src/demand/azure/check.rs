//! Whether the agent pools that the stack names are there, and the token may do with their agents what it must.

use std::collections::BTreeMap;

use super::{Azure, wire::PoolRow};
use crate::{demand::DemandError, model::ids::PoolName, net::Priority, provider::Problem};

/// From which likeness on a name is taken for a mistyped one.
const ALIKE: f64 = 0.8;

impl Azure {
    pub(super) async fn check_pools(&self) -> Result<Vec<Problem>, DemandError> {
        let ci = &self.profile.ci;
        let all = match self.pools(None, false).await {
            Ok((all, _)) => all.rows,
            Err(DemandError::Unauthorized { why }) => {
                return Ok(vec![Problem {
                    place: format!("ci.{ci}.token"),
                    what: format!("the token may not read agent pools: {why}"),
                    hint: Some(SCOPE.to_owned()),
                }]);
            }
            Err(DemandError::Rejected { why } | DemandError::Malformed { why }) => {
                return Ok(vec![Problem {
                    place: format!("ci.{ci}.url"),
                    what: format!("what answers there is no organisation of Azure DevOps: {why}"),
                    hint: Some(
                        "write its root: \"https://dev.azure.com/ORGANISATION\", or a collection's of your own server"
                            .to_owned(),
                    ),
                }]);
            }
            Err(error) => return Err(error),
        };
        let managed = self.pools(None, true).await?.0.rows;
        let mut problems = Vec::new();
        let mut by_key: BTreeMap<&str, &PoolName> = BTreeMap::new();
        for (pool, key) in &self.agent_pools {
            by_key.entry(key).or_insert(pool);
        }
        for (key, pool) in by_key {
            let place = format!("pools.{pool}.agent_pool");
            let Some(row) = find(&all, key) else {
                problems.push(Problem {
                    place,
                    what: format!("there is no agent pool {key:?}, or the token may not see it"),
                    hint: nearest(key, &all),
                });
                continue;
            };
            if let Some(problem) = self.check_pool(place, row, &managed).await? {
                problems.push(problem);
            }
        }
        Ok(problems)
    }

    /// What is wrong with one that is there.
    async fn check_pool(
        &self,
        place: String,
        row: &PoolRow,
        managed: &[PoolRow],
    ) -> Result<Option<Problem>, DemandError> {
        let name = &row.name;
        if row.is_hosted {
            return Ok(Some(Problem {
                place,
                what: format!("the agents of {name:?} are Microsoft's own"),
                hint: Some("name an agent pool of the kind \"self-hosted\"".to_owned()),
            }));
        }
        if managed.iter().all(|other| other.id != row.id) {
            return Ok(Some(Problem {
                place: format!("ci.{}.token", self.profile.ci),
                what: format!(
                    "the token may read the agent pool {name:?}, and not manage it: no agent could be disabled or removed"
                ),
                hint: Some(SCOPE.to_owned()),
            }));
        }
        let (agents, _) = self.agents(row.id, None, Priority::Normal).await?;
        let empty = agents.rows.is_empty() && agents.broken.is_none();
        Ok(empty.then(|| Problem {
            place,
            what: format!("no agent is registered in {name:?}: until one has been, jobs for it fail and do not wait"),
            hint: Some(
                "register one by hand, with the capabilities that its pipelines demand, and leave it there, offline; or write min = 1"
                    .to_owned(),
            ),
        }))
    }
}

/// What a token must be.
const SCOPE: &str = "its owner must be an administrator of the agent pool, and the token needs the scope \"Agent Pools (read, manage)\"";

fn find<'a>(all: &'a [PoolRow], key: &str) -> Option<&'a PoolRow> {
    let by_id = key.parse::<u64>().ok();
    all.iter().find(|row| match by_id {
        Some(id) => row.id == id,
        None => row.name.eq_ignore_ascii_case(key),
    })
}

fn nearest(name: &str, all: &[PoolRow]) -> Option<String> {
    let likeness = all.iter().map(|row| {
        (
            strsim::jaro_winkler(&name.to_lowercase(), &row.name.to_lowercase()),
            &row.name,
        )
    });
    let (score, best) = likeness.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= ALIKE).then(|| format!("did you mean {best:?}?"))
}
