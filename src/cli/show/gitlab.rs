//! `plan --format gitlab`: the report of `artifacts:reports:terraform`, by which GitLab shows on a merge request how many
//! resources would be created, updated and deleted.

use serde::Serialize;

use crate::plan::Plan;

/// The report; GitLab reads these three keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Made, and made anew.
    pub create: u32,
    /// Changed in place, kept from taking jobs or let take them again.
    pub update: u32,
    /// Removed, and made anew.
    pub delete: u32,
}

/// The report of a plan.
pub fn report(plan: &Plan) -> Report {
    let summary = plan.summary();
    Report {
        create: summary.create + summary.replace,
        update: summary.update + summary.cordon,
        delete: summary.delete + summary.replace,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn the_report_has_the_three_numbers_that_gitlab_reads() {
        let json = serde_json::to_string(&report(&fixture::plan())).unwrap();
        assert_eq!(json, r#"{"create":2,"update":2,"delete":1}"#);
    }
}
