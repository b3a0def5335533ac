//! Which operation of the sandbox a call is, and what its page claims of each.

use std::collections::BTreeSet;

use runfleet::sandbox::{self, Check, Party};

/// An operation as `/control/world` counts it: `hetzner GET /servers/{id}`.
pub(crate) type Name = String;

fn name(check: &Check) -> Name {
    let operation = check.operation;
    format!(
        "{} {} {}",
        operation.party.name(),
        operation.method,
        operation.path
    )
}

/// The operations of the cloud and the CI server of which a claim holds.
pub(crate) fn claimed(claim: impl Fn(&Check) -> bool) -> BTreeSet<Name> {
    sandbox::checks()
        .iter()
        .filter(|check| check.operation.party != Party::Control && claim(check))
        .map(name)
        .collect()
}

/// The operation that a call to the sandbox, or to what stands before it, is.
pub(crate) fn of(method: &str, path: &str) -> Option<Name> {
    let fits = |check: &&Check| {
        let operation = check.operation;
        let rest = path.strip_prefix(operation.party.prefix());
        operation.method == method && rest.is_some_and(|rest| matches(operation.path, rest))
    };
    let parameters = |check: &&Check| check.operation.path.matches('{').count();
    sandbox::checks()
        .iter()
        .filter(fits)
        .min_by_key(parameters)
        .map(name)
}

/// Whether a path is one of a pattern with `{parameters}`.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found))
                if wanted == found || (wanted.starts_with('{') && !found.is_empty()) => {}
            _ => return false,
        }
    }
}
