//! Which sources did not answer in full, and why.

use crate::model::{resource::Completeness, snapshot::Snapshot};

use super::document::DiagnosticView;

/// One warning for each source that did not answer in full.
pub fn unread(snapshot: &Snapshot) -> Vec<DiagnosticView> {
    let mut warnings = Vec::new();
    let mut add = |source: String, completeness: &Completeness| {
        if let Completeness::Partial { why } = completeness {
            warnings.push(DiagnosticView::warning(
                format!("{source} did not answer in full"),
                why,
            ));
        }
    };
    for (name, cloud) in &snapshot.clouds {
        add(format!("providers.{name}"), &cloud.listing.completeness);
        // One failure makes both partial; it is told once.
        if cloud.listing.completeness.is_complete() {
            add(
                format!("the offerings of providers.{name}"),
                &cloud.offerings_complete,
            );
        }
    }
    for (name, demand) in &snapshot.demand {
        add(format!("ci.{name}"), &demand.completeness);
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn every_source_that_failed_is_named_with_its_reason() {
        let mut snapshot = fixture::snapshot();
        assert!(unread(&snapshot).is_empty());
        for cloud in snapshot.clouds.values_mut() {
            cloud.listing.completeness = Completeness::partial("no route");
            cloud.offerings_complete = Completeness::partial("no route");
        }
        for demand in snapshot.demand.values_mut() {
            demand.completeness = Completeness::partial("502 Bad Gateway");
        }
        let said: Vec<String> = unread(&snapshot)
            .into_iter()
            .map(|warning| format!("{}: {}", warning.summary, warning.detail))
            .collect();
        assert_eq!(
            said,
            [
                "providers.hetzner did not answer in full: no route",
                "ci.gitlab did not answer in full: 502 Bad Gateway"
            ]
        );
    }
}
