//! The project's own templates, so that the binary alone can make a runner.

use super::TemplateSet;

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)))),*]
    };
}

const SHIPPED: &[(&str, &str)] = shipped![
    "cloud-init/azure-devops-agent.yaml.tera",
    "cloud-init/circleci-runner.yaml.tera",
    "cloud-init/drone-runner.yaml.tera",
    "cloud-init/gitlab-runner.yaml.tera",
    "cloud-init/machine.yaml.tera",
    "templates/ansible-pull.sh.tera",
    "templates/azure-devops-agent.capabilities.tera",
    "templates/azure-devops-agent.env.tera",
    "templates/azure-devops-agent.service.tera",
    "templates/azure-devops-unregister.service.tera",
    "templates/azure-devops-unregister.sh.tera",
    "templates/block-metadata-machine.service.tera",
    "templates/block-metadata-machine.sh.tera",
    "templates/block-metadata.service.tera",
    "templates/block-metadata.sh.tera",
    "templates/bootstrap-azure-devops.sh.tera",
    "templates/bootstrap-circleci.sh.tera",
    "templates/bootstrap-drone.sh.tera",
    "templates/bootstrap-machine.sh.tera",
    "templates/bootstrap.sh.tera",
    "templates/circleci-runner.service.tera",
    "templates/circleci-runner.yaml.tera",
    "templates/docker-daemon.json.tera",
    "templates/drone-runner.env.tera",
    "templates/drone-runner.service.tera",
    "templates/ecs/azure-devops-agent.json.tera",
    "templates/exporter.service.tera",
    "templates/exporter.sh.tera",
    "templates/gitlab-runner.toml.tera",
    "templates/kubernetes/azure-devops-agent.yaml.tera",
    "templates/kubernetes/circleci-runner.yaml.tera",
    "templates/leave.sh.tera",
    "templates/packages.sh.tera",
    "templates/prune.service.tera",
    "templates/prune.timer.tera",
    "templates/secret-azure-devops.sh.tera",
    "templates/secret-circleci.sh.tera",
    "templates/secret-drone.sh.tera",
    "templates/unregister.service.tera",
    "templates/watchdog.service.tera",
    "templates/watchdog.timer.tera",
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
