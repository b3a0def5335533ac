//! The project's own templates, so that the binary alone can make a runner.

use super::TemplateSet;

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))),*]
    };
}

const SHIPPED: &[(&str, &str)] = shipped![
    "cloud-init/gitlab-runner.yaml.tera",
    "templates/block-metadata.service.tera",
    "templates/block-metadata.sh.tera",
    "templates/bootstrap.sh.tera",
    "templates/docker-daemon.json.tera",
    "templates/gitlab-runner.toml.tera",
    "templates/prune.service.tera",
    "templates/prune.timer.tera",
    "templates/unregister.service.tera",
];

/// The templates that this version ships with, by their paths in the project. A file of the same path in the user's
/// project takes the place of one.
pub fn builtin() -> TemplateSet {
    TemplateSet {
        files: SHIPPED
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect(),
    }
}
