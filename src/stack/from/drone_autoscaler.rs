//! The environment of Shuttl's drone-autoscaler (`config/config.go`), as a file.
//!
//! Variables that are not there have its defaults. The token of the Drone server stays a reference to the variable that it
//! is in, whether the file has it or not: it may come from elsewhere.

mod text;

use jiff::SignedDuration;
use url::Url;

use super::{Converted, FromError, env_file::Variables};
use crate::stack::{parse, parse_values::is_loopback};

/// Its name.
const SYSTEM: &str = "drone-autoscaler";
/// Where its token is.
const TOKEN: &str = "DRONE_SERVER_AUTH_TOKEN";
/// What it does not start without, the token aside.
const REQUIRED: [(&str, &str); 3] = [
    ("DRONE_AGENT_MAX_BUILDS", "2"),
    ("DRONE_AGENT_AUTOSCALING_GROUP", "drone-agents"),
    ("DRONE_SERVER_HOST", "drone.example.com"),
];
/// The variables by which such a file is known.
const KNOWN: [&str; 12] = [
    "SCALER_PROBE_INTERVAL",
    "SCALER_DRY",
    "DRONE_AGENT_MAX_BUILDS",
    "DRONE_AGENT_AUTOSCALING_GROUP",
    "DRONE_AGENT_MIN_COUNT",
    "DRONE_AGENT_MIN_RETIREMENT_AGE",
    "DRONE_SERVER_HOST",
    TOKEN,
    "DRONE_SERVER_PROTO",
    "DRONE_BUILD_PENDING_MAX_DURATION",
    "DRONE_BUILD_RUNNING_MAX_DURATION",
    "SCALER_DEBUG",
];
/// The most jobs at a time that a stack file takes.
const MOST_BUILDS: u32 = 1000;
/// The most machines that are asked for here; it had no such bound of its own.
const MAX: u32 = 100;

/// What it says, in our words.
#[derive(Debug)]
struct Settings {
    interval: SignedDuration,
    dry: bool,
    builds: u32,
    group: String,
    min: u32,
    max: u32,
    min_age: SignedDuration,
    /// `https://drone.example.com`
    url: String,
    pending_max: Option<SignedDuration>,
    running_max: Option<SignedDuration>,
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
    variables.require(&REQUIRED)?;
    let settings = settings(&mut variables)?;
    variables.secret(TOKEN);
    variables.boolean("SCALER_DEBUG", false)?;
    variables.leave(
        "SCALER_DEBUG",
        "how much is logged is said when it is run: -v, -vv",
    );
    variables.leave(
        "SCALER_LOG_FORMAT",
        "how logs are written is said when it is run: --log-format json, or text",
    );
    variables.rest(SYSTEM);
    let text = text::written(name, &settings);
    let stack = parse(&text, &format!("stacks/{}.toml", name.escape_debug())).map_err(Box::new)?;
    Ok(Converted {
        text,
        stack,
        left: variables.left,
    })
}

fn settings(variables: &mut Variables<'_>) -> Result<Settings, FromError> {
    let interval = variables
        .duration("SCALER_PROBE_INTERVAL")?
        .unwrap_or(SignedDuration::from_secs(30));
    if !interval.is_positive() {
        return Err(variables.wrong("SCALER_PROBE_INTERVAL", "above zero"));
    }
    let builds = variables.number(
        "DRONE_AGENT_MAX_BUILDS",
        1..=MOST_BUILDS,
        "a whole number from 1 to 1000",
    )?;
    let min = variables
        .number(
            "DRONE_AGENT_MIN_COUNT",
            0..=u32::MAX,
            "a whole number, zero or above",
        )?
        .unwrap_or(1);
    let min_age = variables
        .duration("DRONE_AGENT_MIN_RETIREMENT_AGE")?
        .unwrap_or(SignedDuration::from_mins(10));
    let region = match variables.text("AWS_REGION")? {
        Some(region) => Some(region),
        None => variables.text("AWS_DEFAULT_REGION")?,
    };
    Ok(Settings {
        interval,
        dry: variables.boolean("SCALER_DRY", false)?,
        builds: builds.unwrap_or(1),
        group: variables
            .text("DRONE_AGENT_AUTOSCALING_GROUP")?
            .unwrap_or_default(),
        min,
        max: min.max(MAX),
        // Any age is above a negative one.
        min_age: min_age.max(SignedDuration::ZERO),
        url: url(variables)?,
        pending_max: limit(variables, "DRONE_BUILD_PENDING_MAX_DURATION")?,
        running_max: limit(variables, "DRONE_BUILD_RUNNING_MAX_DURATION")?,
        region,
        profile: variables.text("AWS_PROFILE")?,
    })
}

/// A limit that is off where it is negative.
fn limit(variables: &mut Variables<'_>, key: &str) -> Result<Option<SignedDuration>, FromError> {
    match variables.duration(key)? {
        Some(limit) if limit.is_zero() => Err(variables.wrong(
            key,
            "above zero, or negative for no limit: at zero it passed over every build",
        )),
        limit => Ok(limit.filter(SignedDuration::is_positive)),
    }
}

/// The server's root. The token goes over https, whatever the file says: plain http only to this machine.
fn url(variables: &mut Variables<'_>) -> Result<String, FromError> {
    const HOST: &str = "DRONE_SERVER_HOST";
    const PROTO: &str = "DRONE_SERVER_PROTO";
    let proto = variables.text(PROTO)?;
    let secure = match proto.as_deref() {
        Some("https") => true,
        Some("http") | None => false,
        Some(_) => return Err(variables.wrong(PROTO, "http or https")),
    };
    let host = variables.text(HOST)?.unwrap_or_default();
    let host = host.trim_end_matches('/');
    let scheme = if secure { "https" } else { "http" };
    let address = format!("{scheme}://{host}");
    let good = Url::parse(&address).ok().filter(|url| {
        url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && !host.contains("://")
    });
    let Some(url) = good else {
        return Err(variables.wrong(HOST, "a host's name, with its port where it has one"));
    };
    if secure || url.host().as_ref().is_some_and(is_loopback) {
        return Ok(address);
    }
    variables.tell(
        PROTO,
        "http, its default, would send an administrator's token in the clear: the stack file says https. Where the server \
         has no https, let a tunnel end on this machine and write url = \"http://127.0.0.1:PORT\"",
    );
    Ok(format!("https://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ids::ProviderName,
        stack::{Endpoint, GroupChoice, GroupSelector, Leave, Mode, Policy, ProviderKind, SecretRef},
    };

    const SMALL: &str = "DRONE_AGENT_MAX_BUILDS=2\nDRONE_AGENT_AUTOSCALING_GROUP=drone-agents\n\
                         DRONE_SERVER_HOST=drone.example.com\nDRONE_SERVER_PROTO=https\n";

    fn made(text: &str) -> Converted {
        convert(text, "drone", &|_| None).unwrap_or_else(|error| panic!("{error} {error:?}"))
    }

    fn refused(text: &str) -> String {
        convert(text, "drone", &|_| None).unwrap_err().to_string()
    }

    fn left(converted: &Converted) -> Vec<&str> {
        converted.left.iter().map(|left| left.key.as_str()).collect()
    }

    #[test]
    fn every_variable_becomes_what_behaves_the_same() {
        let made = made(
            "# the autoscaler\nexport SCALER_PROBE_INTERVAL=1m\nSCALER_LOG_FORMAT=text\nSCALER_DEBUG=true\nSCALER_DRY=\"true\"\n\
             DRONE_AGENT_MAX_BUILDS='4'\nDRONE_AGENT_AUTOSCALING_GROUP=ci agents\nDRONE_AGENT_MIN_COUNT=3\n\
             DRONE_AGENT_MIN_RETIREMENT_AGE=1h30m\nDRONE_SERVER_HOST=drone.example.com:8443\nDRONE_SERVER_AUTH_TOKEN=verysecret\n\
             DRONE_SERVER_PROTO=https\nDRONE_BUILD_PENDING_MAX_DURATION=2h\nDRONE_BUILD_RUNNING_MAX_DURATION=6h\n\
             AWS_REGION=eu-central-1\nAWS_PROFILE=ci\nAWS_SECRET_ACCESS_KEY=verysecret\nTZ=UTC\n",
        );
        let (stack, pool) = (&made.stack, &made.stack.pools[0]);
        assert_eq!(stack.interval, SignedDuration::from_mins(1));
        let aws = &stack.providers["asg"];
        assert_eq!(aws.kind, ProviderKind::Asg);
        assert_eq!(
            (aws.aws.region.as_deref(), aws.aws.profile.as_deref()),
            (Some("eu-central-1"), Some("ci"))
        );
        let ci = &stack.ci["drone"];
        assert_eq!(ci.url, Endpoint::Url("https://drone.example.com:8443".to_owned()));
        assert_eq!(ci.token, Some(SecretRef::Env(TOKEN.to_owned())));
        assert_eq!(ci.pending_max, Some(SignedDuration::from_hours(2)));
        assert_eq!(ci.running_max, Some(SignedDuration::from_hours(6)));
        assert_eq!((pool.mode, pool.run_untagged), (Mode::Advise, true));
        assert_eq!((pool.jobs_per_runner, pool.min, pool.max), (4, 3, MAX));
        assert_eq!(pool.idle_timeout, SignedDuration::ZERO);
        let min_age = SignedDuration::from_mins(90);
        assert_eq!(pool.policy, Policy::DroneAutoscaler { min_age });
        let group = GroupChoice {
            provider: ProviderName::from("asg"),
            which: GroupSelector::Named("ci agents".to_owned()),
            leave: Leave::Terminate,
            runner: crate::stack::RunnerNaming::Id,
        };
        assert_eq!(pool.group, Some(group));
        assert_eq!(
            left(&made),
            ["SCALER_DEBUG", "SCALER_LOG_FORMAT", "AWS_SECRET_ACCESS_KEY", "TZ"]
        );
        assert!(made.left[3].why.contains("knows no such variable"));
    }

    #[test]
    fn what_a_file_does_not_say_has_its_default() {
        let made = made(SMALL);
        let (ci, pool) = (&made.stack.ci["drone"], &made.stack.pools[0]);
        assert_eq!(made.stack.interval, SignedDuration::from_secs(30));
        assert_eq!((ci.pending_max, ci.running_max), (None, None));
        assert_eq!((pool.mode, pool.min, pool.jobs_per_runner), (Mode::Act, 1, 2));
        let min_age = SignedDuration::from_mins(10);
        assert_eq!(pool.policy, Policy::DroneAutoscaler { min_age });
        assert_eq!(left(&made), [""; 0]);
        assert_eq!(made.stack.providers["asg"].aws.region, None);
    }

    #[test]
    fn negative_limits_are_none() {
        let made = made(&format!(
            "{SMALL}DRONE_BUILD_PENDING_MAX_DURATION=-1s\nDRONE_BUILD_RUNNING_MAX_DURATION=-5m\nDRONE_AGENT_MIN_RETIREMENT_AGE=-1s\n"
        ));
        let ci = &made.stack.ci["drone"];
        assert_eq!((ci.pending_max, ci.running_max), (None, None));
        let min_age = SignedDuration::ZERO;
        assert_eq!(made.stack.pools[0].policy, Policy::DroneAutoscaler { min_age });
    }

    #[test]
    fn more_agents_than_usual_keep_their_minimum() {
        let made = made(&format!("{SMALL}DRONE_AGENT_MIN_COUNT=250\n"));
        assert_eq!((made.stack.pools[0].min, made.stack.pools[0].max), (250, 250));
    }

    #[test]
    fn plain_http_is_kept_for_this_machine_alone() {
        let url = |text: String| {
            let made = made(&text);
            (made.stack.ci["drone"].url.clone(), left(&made).join(" "))
        };
        let https = |host: &str| Endpoint::Url(format!("https://{host}"));
        let without = SMALL.replace("DRONE_SERVER_PROTO=https\n", "");
        assert_eq!(
            url(without.clone()),
            (https("drone.example.com"), "DRONE_SERVER_PROTO".to_owned())
        );
        assert_eq!(
            url(SMALL.replace("https", "http")),
            (https("drone.example.com"), "DRONE_SERVER_PROTO".to_owned())
        );
        let here = without.replace("drone.example.com", "127.0.0.1:8080/");
        assert_eq!(
            url(here),
            (Endpoint::Url("http://127.0.0.1:8080".to_owned()), String::new())
        );
    }

    #[test]
    fn no_secret_is_copied_or_told() {
        let text = format!(
            "{SMALL}DRONE_SERVER_AUTH_TOKEN=verysecret\nAWS_SECRET_ACCESS_KEY=verysecret\nOTHER=verysecret\n"
        );
        let converted = made(&text);
        let told = format!("{} {:?}", converted.text, converted.left);
        assert!(!told.contains("verysecret"), "{told}");
        for broken in [
            text.replace("drone.example.com", "user:verysecret@host"),
            text.replace("BUILDS=2", "BUILDS=verysecret"),
            text.replace("GROUP=drone-agents", "GROUP=$verysecret"),
            text.replace("PROTO=https", "PROTO=verysecret"),
            format!("{text}A=\"verysecret\n"),
            format!("{text}verysecret!\n"),
        ] {
            let error = convert(&broken, "drone", &|_| None).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("verysecret"), "{told}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_with_its_line() {
        assert_eq!(
            refused("SCALER_DRY=true\nDRONE_SERVER_HOST=\n"),
            "line 3: DRONE_AGENT_MAX_BUILDS is missing, line 3: DRONE_AGENT_AUTOSCALING_GROUP is missing, \
             line 2: DRONE_SERVER_HOST is missing"
        );
        assert!(
            refused("APP_CIRCLE_TOKEN=x\n").starts_with("it has none of the variables of drone-autoscaler")
        );
        for (line, expected) in [
            (
                "DRONE_AGENT_MAX_BUILDS=0",
                "DRONE_AGENT_MAX_BUILDS is not a whole number from 1 to 1000",
            ),
            (
                "DRONE_AGENT_MIN_COUNT=-1",
                "DRONE_AGENT_MIN_COUNT is not a whole number, zero or above",
            ),
            (
                "SCALER_PROBE_INTERVAL=30",
                "SCALER_PROBE_INTERVAL is not a length of time such as 30s, 10m or 1h30m",
            ),
            (
                "SCALER_PROBE_INTERVAL=0s",
                "SCALER_PROBE_INTERVAL is not above zero",
            ),
            ("SCALER_DRY=yes", "SCALER_DRY is not true or false"),
            (
                "DRONE_SERVER_PROTO=ftp",
                "DRONE_SERVER_PROTO is not http or https",
            ),
            (
                "DRONE_SERVER_HOST=a b",
                "DRONE_SERVER_HOST is not a host's name, with its port where it has one",
            ),
            (
                "DRONE_SERVER_HOST=https://a",
                "DRONE_SERVER_HOST is not a host's name, with its port where it has one",
            ),
            (
                "DRONE_BUILD_PENDING_MAX_DURATION=0s",
                "DRONE_BUILD_PENDING_MAX_DURATION is not above zero, or negative for no limit: at zero it passed over every build",
            ),
            (
                "AWS_REGION=$REGION",
                "AWS_REGION is not written out: what `$` refers to is not looked up",
            ),
        ] {
            assert_eq!(
                refused(&format!("{SMALL}{line}\n")),
                format!("line 5: {expected}")
            );
        }
    }

    #[test]
    fn names_are_quoted_in_the_text() {
        let text = SMALL.replace("GROUP=drone-agents", "GROUP='a\"b\\c'");
        let group = made(&text).stack.pools[0].group.clone().unwrap();
        assert_eq!(group.which, GroupSelector::Named("a\"b\\c".to_owned()));
        assert!(matches!(
            convert(SMALL, "Drone", &|_| None),
            Err(FromError::Stack(_))
        ));
    }
}
