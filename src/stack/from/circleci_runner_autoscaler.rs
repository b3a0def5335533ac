//! The environment of vela-games' circleci-runner-autoscaler (`config/configuration.go`), as a file.
//!
//! It finds Auto Scaling groups by their tag `resource-class`, and suspended CronJobs by their labels, so there is one pool that
//! discovers each: the second unless its Kubernetes part is switched off. CircleCI's token stays a reference to the variable
//! that it is in, whether the file has it or not: it may come from elsewhere.

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
    /// Where its CronJobs are; none where that part is off.
    cluster: Option<String>,
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
    let cluster = kubernetes(&mut variables)?;
    let region = match variables.text("AWS_REGION")? {
        Some(region) => Some(region),
        None => variables.text("AWS_DEFAULT_REGION")?,
    };
    let settings = Settings {
        namespace,
        region,
        profile: variables.text("AWS_PROFILE")?,
        cluster,
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

/// The namespace of its other part, on unless it is switched off.
fn kubernetes(variables: &mut Variables<'_>) -> Result<Option<String>, FromError> {
    if !variables.boolean(KUBERNETES, true)? {
        variables.leave(
            KUBERNETES_NAMESPACE,
            "of use to its Kubernetes part only, which is off",
        );
        return Ok(None);
    }
    let namespace = variables.text(KUBERNETES_NAMESPACE)?;
    let namespace = namespace.unwrap_or_else(|| "circleci-runners".to_owned());
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if namespace.len() > 63
        || namespace.starts_with('-')
        || namespace.ends_with('-')
        || !namespace.bytes().all(letters)
    {
        return Err(variables.wrong(
            KUBERNETES_NAMESPACE,
            "a namespace of Kubernetes: lower-case letters, digits and -",
        ));
    }
    Ok(Some(namespace))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::stack::{CircleciApi, Endpoint, GroupSelector, Mode, Policy, ProviderKind, SecretRef};

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
        assert_eq!(left, []);
        assert!(!format!("{} {left:?}", made.text).contains("verysecret"));
        assert_eq!((made.stack.pools.len(), made.stack.providers.len()), (1, 1));
    }

    #[test]
    fn its_kubernetes_part_is_taken_over_because_it_is_on_by_default() {
        let of = |text: &str| {
            let made = made(text);
            let keys: Vec<String> = made.left.iter().map(|left| left.key.clone()).collect();
            (made, keys)
        };
        let (made, keys) = of("APP_CIRCLE_RESOURCE_NAMESPACE=acme\nAPP_KUBERNETES_NAMESPACE=ci\nFOO=1\n");
        assert_eq!(keys, ["FOO"]);
        let cluster = &made.stack.providers["cluster"];
        assert_eq!(cluster.kind, ProviderKind::Kubernetes);
        let home = cluster.kubernetes.as_ref().unwrap();
        assert_eq!((home.namespace.as_str(), home.in_cluster), ("ci", true));
        let names: Vec<&str> = made.stack.pools.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(names, ["runners", "jobs"]);
        let pool = &made.stack.pools[1];
        assert_eq!(pool.discover.as_ref().unwrap().org, "acme");
        assert_eq!(pool.policy, Policy::AsgIncrement);
        assert_eq!((pool.min, pool.max, pool.jobs_per_runner), (0, 100, 1));
        assert_eq!(pool.offerings.len(), 1);
        assert_eq!(pool.offerings[0].provider.as_str(), "cluster");
        let (made, keys) = of("APP_CIRCLE_RESOURCE_NAMESPACE=acme\nAPP_KUBERNETES_SCALER_ENABLED=1\n");
        assert!(keys.is_empty());
        let home = made.stack.providers["cluster"].kubernetes.clone().unwrap();
        assert_eq!(home.namespace, "circleci-runners");
        let (_, keys) = of(&format!("{SMALL}APP_KUBERNETES_NAMESPACE=ci\n"));
        assert_eq!(keys, [KUBERNETES_NAMESPACE]);
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
        assert_eq!(
            refused("APP_CIRCLE_RESOURCE_NAMESPACE=acme\nAPP_KUBERNETES_NAMESPACE=CI_1\n"),
            "line 2: APP_KUBERNETES_NAMESPACE is not a namespace of Kubernetes: lower-case letters, digits and -"
        );
        assert!(
            refused("DRONE_SERVER_HOST=x\n").starts_with("it has none of the variables of circleci-runner")
        );
        assert!(matches!(convert(SMALL, "-", &|_| None), Err(FromError::Stack(_))));
    }
}
