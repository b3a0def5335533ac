//! Whether the token may do what the stack needs, and whether the projects that it names exist.

use http::StatusCode;
use tokio::time::Instant;

use super::{
    Gitlab,
    api::{Effect, Query, accept, decode, get, query, segment},
    graphql,
    observe::{MAINTAINER, OBSERVATION},
    pages::{Pages, list},
    scope::Scope,
    wire::{Project, ProjectDetails, TokenDetails},
};
use crate::{demand::DemandError, provider::Problem};

/// GitLab's access level of an Owner.
const OWNER: u32 = 50;
/// What may stand in for `api`: to read, to make a runner, and to pause and remove it.
const NARROW_SCOPES: [&str; 3] = ["read_api", "create_runner", "manage_runner"];
/// Least similarity (Jaro-Winkler) of a path worth suggesting.
const SIMILAR: f64 = 0.8;

impl Gitlab {
    pub(super) async fn check_names(&self) -> Result<Vec<Problem>, DemandError> {
        let mut problems = Vec::new();
        let is_admin = self.check_token(&mut problems).await?;
        if self.scope == Scope::Instance && !is_admin {
            problems.push(self.problem(
                "instance",
                "the token's user is no administrator, and GitLab shows the instance's jobs to administrators only",
                Some("use an administrator's token (with the scope admin_mode where that is on), or name groups".to_owned()),
            ));
        }
        for (index, group) in self.groups.iter().enumerate() {
            let place = format!("groups[{index}]");
            problems.extend(self.check_group(&place, group, is_admin).await?);
        }
        if self.scope == Scope::Union
            && let Err(DemandError::Rejected { why }) = self.union(Instant::now() + OBSERVATION).await
        {
            problems.push(self.problem("groups", &why, None));
        }
        for pool in self.shared.keys() {
            if let Err(error) = self.shared_runner(pool).await {
                problems.push(Problem {
                    place: format!("pools.{pool}.runner_token"),
                    what: error.to_string(),
                    hint: Some("copy it from the runner's page in GitLab; it begins with glrt-".to_owned()),
                });
            }
        }
        if self.scope == Scope::Maintained {
            let pages = self.maintained(Instant::now() + OBSERVATION).await;
            if pages.whole()?.is_empty() {
                problems.push(self.problem(
                    "projects",
                    "the token's user is Maintainer of no project",
                    Some("add them to a project as Maintainer, or use another token".to_owned()),
                ));
            }
        }
        for (index, name) in self.projects.iter().enumerate() {
            let place = format!("projects[{index}]");
            problems.extend(self.check_project(&place, name).await?);
        }
        Ok(problems)
    }

    /// Says whether the token's user is an administrator.
    async fn check_token(&self, problems: &mut Vec<Problem>) -> Result<bool, DemandError> {
        let (user, _) = self.user().await?;
        let is_admin = user.is_admin();
        if user.state.as_deref().is_some_and(|state| state != "active") {
            let state = user.state.unwrap_or_default();
            problems.push(self.problem(
                "token",
                &format!("the token's user {} is {state}", user.username),
                None,
            ));
        }
        let reply = self
            .api
            .send(get("/personal_access_tokens/self", Query::new()))
            .await?;
        // A token of another kind (OAuth, job) does not tell its scopes.
        if matches!(reply.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) {
            return Ok(is_admin);
        }
        let token: TokenDetails = decode(&accept(reply, Effect::Read)?)?;
        let missing = missing_scopes(&token.scopes);
        if !missing.is_empty() {
            problems.push(self.problem(
                "token",
                &format!("the token lacks the scope {}", missing.join(" and the scope ")),
                Some(format!(
                    "make one with the scope api, or with {}; to plan only, read_api is enough",
                    NARROW_SCOPES.join(", ")
                )),
            ));
        }
        Ok(is_admin)
    }

    async fn check_group(
        &self,
        place: &str,
        group: &str,
        is_admin: bool,
    ) -> Result<Option<Problem>, DemandError> {
        let level = match graphql::level(&self.api, group, Instant::now() + OBSERVATION).await {
            Ok(level) => level,
            Err(DemandError::Rejected { why }) => return Ok(Some(self.problem(place, &why, None))),
            Err(error) => return Err(error),
        };
        let low = level.is_some_and(|level| level < OWNER) && !is_admin;
        Ok((low && matches!(self.scope, Scope::Group(_))).then(|| {
            self.problem(
                place,
                &format!("the token's user is not Owner of {group}, and may not make runners in it"),
                Some("give them the Owner role, or name projects".to_owned()),
            )
        }))
    }

    async fn check_project(&self, place: &str, name: &str) -> Result<Option<Problem>, DemandError> {
        let path = format!("/projects/{}", segment(name));
        let Some(project) = self.api.find::<ProjectDetails>(&path).await? else {
            return Ok(Some(self.problem(
                place,
                &format!("there is no project {name}, or the token may not see it"),
                self.similar(name).await,
            )));
        };
        Ok(project
            .access_level()
            .filter(|level| *level < MAINTAINER)
            .map(|_| {
                self.problem(
                    place,
                    &format!("the token's user is not Maintainer of {name}, and may not see its runners"),
                    Some("give them the Maintainer role".to_owned()),
                )
            }))
    }

    /// Projects that may have been meant; a failure here costs only the hint.
    async fn similar(&self, name: &str) -> Option<String> {
        let wanted = query(&[("membership", "true"), ("simple", "true"), ("per_page", "100")]);
        let pages: Pages<Project> = list(&self.api, "/projects", wanted, Instant::now() + OBSERVATION).await;
        let mut near: Vec<(f64, String)> = pages
            .items
            .into_values()
            .map(|project| {
                let likeness = strsim::jaro_winkler(name, &project.path_with_namespace);
                (likeness, project.path_with_namespace)
            })
            .filter(|(likeness, _)| *likeness >= SIMILAR)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let names: Vec<String> = near.into_iter().take(3).map(|(_, path)| path).collect();
        (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
    }

    fn problem(&self, key: &str, what: &str, hint: Option<String>) -> Problem {
        Problem {
            place: format!("ci.{}.{key}", self.profile.ci),
            what: what.to_owned(),
            hint,
        }
    }
}

/// The scopes that a token lacks for control.
fn missing_scopes(scopes: &[String]) -> Vec<&'static str> {
    let has = |scope: &str| scopes.iter().any(|one| one == scope);
    if has("api") {
        return Vec::new();
    }
    NARROW_SCOPES.into_iter().filter(|scope| !has(scope)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_api_or_all_of_the_narrow_scopes() {
        let scopes = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        assert!(missing_scopes(&scopes("api")).is_empty());
        assert!(missing_scopes(&scopes("read_api create_runner manage_runner")).is_empty());
        assert_eq!(
            missing_scopes(&scopes("read_api")),
            ["create_runner", "manage_runner"]
        );
    }
}
