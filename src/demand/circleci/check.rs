//! Whether the token may see the resource classes that the pools name.

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::{
    Circleci,
    observe::{CLASSES_AT_ONCE, Class, OBSERVATION, by_class},
    wire::Runners,
};
use crate::{demand::DemandError, net::Priority, provider::Problem};

impl Circleci {
    pub(super) async fn check_classes(&self) -> Result<Vec<Problem>, DemandError> {
        let deadline = Instant::now() + OBSERVATION;
        let named = self.classes.iter().map(|(pool, class)| Class {
            pool: pool.clone(),
            class: class.clone(),
        });
        let (classes, doubles) = by_class(named);
        let mut problems: Vec<Problem> = doubles.iter().map(doubled).collect();
        if classes.is_empty() {
            self.server_time(deadline).await?;
        }
        let mut answers = stream::iter(classes)
            .map(|of| async move {
                let path = self.paths.runners;
                let asked = self.ask::<Runners>(path, &of.class, Priority::Normal, deadline);
                (asked.await.err(), of)
            })
            .buffered(CLASSES_AT_ONCE);
        while let Some((refusal, of)) = answers.next().await {
            let Some(error) = refusal else { continue };
            let problem = self.refused(&of, error)?;
            // What is wrong with the token or the address is so for each class.
            if problems.iter().all(|known| known.place != problem.place) {
                problems.push(problem);
            }
        }
        Ok(problems)
    }

    /// What an answer says of the stack file; the error itself where it says nothing of that.
    fn refused(&self, of: &Class, error: DemandError) -> Result<Problem, DemandError> {
        let Class { pool, class } = of;
        let ci = &self.profile.ci;
        let (place, what, hint) = match error {
            DemandError::Unauthorized { why } => (
                format!("ci.{ci}.token"),
                format!("the token may not see the resource class {class}: {why}"),
                "use a personal API token of a member of the organisation that owns it; a resource class's own token is for its runners alone".to_owned(),
            ),
            DemandError::Rejected { why } => (
                format!("pools.{pool}.tags"),
                format!("CircleCI does not know the resource class {class}: {why}"),
                format!("write it as NAMESPACE/NAME, or make it: circleci runner resource-class create {class} TEXT"),
            ),
            DemandError::Malformed { why } => (
                format!("ci.{ci}.url"),
                format!("what answers there is not CircleCI's runner API: {why}"),
                "leave `url` out, or write the root of your own server".to_owned(),
            ),
            error => return Err(error),
        };
        Ok(Problem {
            place,
            what,
            hint: Some(hint),
        })
    }
}

fn doubled(of: &Class) -> Problem {
    let Class { pool, class } = of;
    Problem {
        place: format!("pools.{pool}.tags"),
        what: format!("another pool has the resource class {class} too, and is given all of its tasks"),
        hint: Some("give each pool a class of its own".to_owned()),
    }
}
