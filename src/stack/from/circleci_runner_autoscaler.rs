//! The environment of vela-games' circleci-runner-autoscaler (`config/configuration.go`), as a file: its part that sizes
//! Auto Scaling groups.
//!
//! It finds groups by their tag `resource-class`, so there is one pool that discovers them. CircleCI's token stays a
//! reference to the variable that it is in, whether the file has it or not: it may come from elsewhere.

mod text;

use super::{Converted, FromError, env_file::Variables};
use crate::stack::parse;

/// Its name.
const SYSTEM: &str = "circleci-runner-autoscaler";
/// Where its token is.
const TOKEN: &str = "APP_CIRCLE_TOKEN";
const NAMESPACE: &str = "APP_CIRCLE_RESOURCE_NAMESPACE";
const KUBERNETES: &str = "APP_KUBERNETES_SCALER_ENABLED";
const KUBERNETES_NAMESPACE: &str = "APP_KUBERNETES_NAMESPACE";
/// The variables by which such a file is known.
const KNOWN: [&str; 4] = [KUBERNETES, KUBERNETES_NAMESPACE, TOKEN, NAMESPACE];

/// What it says, in our words.
#[derive(Debug)]
struct Settings {
    namespace: String,
    region: Option<String>,
    profile: Option<String>,
}

/// Makes a stack file of this name. `env` looks a variable up whose name alone stands in the file.
///
/// # Errors
/// When the text is no such file, or comes to no valid stack.
pub fn convert(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Converted, FromError> {
    let mut variables = Variables::read(text, env)?;
    variables.is_of(SYSTEM, &KNOWN)?;
    variables.require(&[(NAMESPACE, "acme")])?;
    let namespace = variables.text(NAMESPACE)?.unwrap_or_default();
    if namespace.contains(['/', ' ', '\t']) {
        return Err(variables.wrong(
            NAMESPACE,
            "a namespace: what stands before the slash of a resource class",
        ));
    }
    variables.secret(TOKEN);
    kubernetes(&mut variables)?;
    let region = match variables.text("AWS_REGION")? {
        Some(region) => Some(region),
        None => variables.text("AWS_DEFAULT_REGION")?,
    };
    let settings = Settings {
        namespace,
        region,
        profile: variables.text("AWS_PROFILE")?,
    };
    variables.rest(SYSTEM);
    let text = text::written(name, &settings);
    let stack = parse(&text, &format!("stacks/{}.toml", name.escape_debug())).map_err(Box::new)?;
    Ok(Converted {
        text,
        stack,
        left: variables.left,
    })
}

/// Its other part, on unless it is switched off.
fn kubernetes(variables: &mut Variables<'_>) -> Result<(), FromError> {
    if variables.boolean(KUBERNETES, true)? {
        let namespace = variables.text(KUBERNETES_NAMESPACE)?;
        let namespace = namespace.as_deref().unwrap_or("circleci-runners");
        let why = format!(
            "Jobs made from CronJobs in the namespace {namespace}: runfleet has no Kubernetes provider yet. If there are any, \
             they are to be served by other means; the old program cannot go on for them alone, because it always sizes \
             groups too"
        );
        variables.tell(KUBERNETES, why);
    } else {
        variables.leave(KUBERNETES, "off: nothing of Kubernetes is missed");
    }
    variables.leave(
        KUBERNETES_NAMESPACE,
        "of use to its Kubernetes part only, which is not taken over",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::stack::{CircleciApi, Endpoint, GroupSelector, Mode, Policy, SecretRef};

    const SMALL: &str = "APP_CIRCLE_TOKEN=verysecret\nAPP_CIRCLE_RESOURCE_NAMESPACE=acme\n\
                         APP_KUBERNETES_SCALER_ENABLED=false\n";

    fn made(text: &str) -> Converted {
        convert(text, "circleci", &|_| None).unwrap_or_else(|error| panic!("{error} {error:?}"))
    }

    fn refused(text: &str) -> String {
        convert(text, "circleci", &|_| None).unwrap_err().to_string()
    }

    #[test]
    fn every_variable_becomes_what_behaves_the_same() {
        let made = made(&format!("{SMALL}AWS_DEFAULT_REGION=us-east-1\n"));
        let pool = &made.stack.pools[0];
        assert_eq!(made.stack.interval, SignedDuration::from_secs(5));
        let ci = &made.stack.ci["circleci"];
        assert_eq!((&ci.url, ci.api), (&Endpoint::Default, CircleciApi::V3));
        assert_eq!(ci.token, Some(SecretRef::Env(TOKEN.to_owned())));
        assert_eq!(
            made.stack.providers["asg"].aws.region.as_deref(),
            Some("us-east-1")
        );
        assert_eq!(
            (pool.mode, pool.jobs_per_runner, pool.min, pool.max),
            (Mode::Act, 1, 0, 100)
        );
        assert_eq!(pool.policy, Policy::AsgIncrement);
        assert_eq!(pool.ready_timeout, SignedDuration::from_mins(15));
        assert_eq!(
            pool.group.as_ref().unwrap().which,
            GroupSelector::Tagged {
                key: "resource-class".to_owned(),
                namespace: "acme".to_owned()
            }
        );
        let left: Vec<(&str, &str)> = made
            .left
            .iter()
            .map(|left| (left.key.as_str(), left.why.as_str()))
            .collect();
        assert_eq!(left, [(KUBERNETES, "off: nothing of Kubernetes is missed")]);
        assert!(!format!("{} {left:?}", made.text).contains("verysecret"));
    }

    #[test]
    fn its_kubernetes_part_is_named_because_it_is_on_by_default() {
        let made = made("APP_CIRCLE_RESOURCE_NAMESPACE=acme\nAPP_KUBERNETES_NAMESPACE=ci\nFOO=1\n");
        let keys: Vec<&str> = made.left.iter().map(|left| left.key.as_str()).collect();
        assert_eq!(keys, [KUBERNETES, KUBERNETES_NAMESPACE, "FOO"]);
        assert!(
            made.left[0].why.contains("in the namespace ci:"),
            "{}",
            made.left[0].why
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_with_its_line() {
        assert_eq!(
            refused("APP_CIRCLE_TOKEN=x\n"),
            "line 2: APP_CIRCLE_RESOURCE_NAMESPACE is missing"
        );
        assert_eq!(
            refused("APP_CIRCLE_RESOURCE_NAMESPACE=acme/linux\n"),
            "line 1: APP_CIRCLE_RESOURCE_NAMESPACE is not a namespace: what stands before the slash of a resource class"
        );
        assert_eq!(
            refused(&SMALL.replace("=false", "=off")),
            "line 3: APP_KUBERNETES_SCALER_ENABLED is not true or false"
        );
        assert!(
            refused("DRONE_SERVER_HOST=x\n").starts_with("it has none of the variables of circleci-runner")
        );
        assert!(matches!(convert(SMALL, "-", &|_| None), Err(FromError::Stack(_))));
    }
}
