//! What a check found, and how it is shown.

use std::fmt::Write as _;

use serde::Serialize;

use crate::core::explain::printable;

/// The checks, by the name that is their anchor in `docs/checks.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckId {
    ApiReachable,
    ApiVersion,
    ClockSkew,
    Rights,
    MayInstall,
    Controller,
    Lease,
    ConfigMaps,
    SourceAnswers,
    SourceAge,
    SourceFineness,
    Workloads,
    Rivals,
    FieldOwners,
}

impl CheckId {
    #[cfg(test)]
    pub(super) const ALL: [Self; 14] = [
        Self::ApiReachable,
        Self::ApiVersion,
        Self::ClockSkew,
        Self::Rights,
        Self::MayInstall,
        Self::Controller,
        Self::Lease,
        Self::ConfigMaps,
        Self::SourceAnswers,
        Self::SourceAge,
        Self::SourceFineness,
        Self::Workloads,
        Self::Rivals,
        Self::FieldOwners,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ApiReachable => "api-reachable",
            Self::ApiVersion => "api-version",
            Self::ClockSkew => "clock-skew",
            Self::Rights => "rights",
            Self::MayInstall => "may-install",
            Self::Controller => "controller",
            Self::Lease => "lease",
            Self::ConfigMaps => "config-maps",
            Self::SourceAnswers => "source-answers",
            Self::SourceAge => "source-age",
            Self::SourceFineness => "source-fineness",
            Self::Workloads => "workloads",
            Self::Rivals => "rivals",
            Self::FieldOwners => "field-owners",
        }
    }

    /// The first thing to try.
    const fn hint(self) -> &'static str {
        match self {
            Self::ApiReachable => "check --kubeconfig and --context, and the network",
            Self::ApiVersion => "podswell needs Kubernetes 1.23 or newer",
            Self::ClockSkew => "let both machines follow the same time servers",
            Self::Rights => "apply what podswell rbac prints",
            Self::MayInstall => "ask an administrator to apply what podswell manifests prints",
            Self::Controller => "look at the logs of the Deployment podswell",
            Self::Lease => "look at the logs of podswell and at who else may write its Lease",
            Self::ConfigMaps => "mend the ConfigMap; podswell lint checks it without a cluster",
            Self::SourceAnswers => {
                "check the URL and the credentials from podswell's pod: kubectl exec deploy/podswell"
            }
            Self::SourceAge => "check that the server scrapes these series now",
            Self::SourceFineness => "set interval to what the server really scrapes at",
            Self::Workloads => {
                "podswell explain shows each problem; podswell lint finds them earlier"
            }
            Self::Rivals => "let one autoscaler scale a Deployment: remove the other one",
            Self::FieldOwners => {
                "podswell gitops prints how a tool is told to leave replicas alone"
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Success,
    Warning,
    Error,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) result: Verdict,
    /// What is so, or should be so.
    pub(super) description: String,
    /// Why it is not.
    pub(super) error: Option<String>,
    pub(super) hint: Option<String>,
}

impl Check {
    pub(super) fn good(id: CheckId, description: impl Into<String>) -> Self {
        let (name, result) = (id.as_str(), Verdict::Success);
        Self { name, result, description: description.into(), error: None, hint: None }
    }

    pub(super) fn warning(
        id: CheckId,
        description: impl Into<String>,
        error: impl Into<String>,
    ) -> Self {
        let hint = format!("{} (docs/checks.md#{})", id.hint(), id.as_str());
        Self {
            result: Verdict::Warning,
            error: Some(error.into()),
            hint: Some(hint),
            ..Self::good(id, description)
        }
    }

    pub(super) fn error(
        id: CheckId,
        description: impl Into<String>,
        error: impl Into<String>,
    ) -> Self {
        Self { result: Verdict::Error, ..Self::warning(id, description, error) }
    }
}

/// Checks that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Category {
    pub(super) category_name: &'static str,
    pub(super) checks: Vec<Check>,
}

/// The worst of all.
pub(super) fn worst(categories: &[Category]) -> Verdict {
    let all = categories.iter().flat_map(|category| &category.checks);
    all.map(|check| check.result).max().unwrap_or(Verdict::Success)
}

/// The report for people.
pub(super) fn text(categories: &[Category]) -> String {
    let mut text = String::new();
    for category in categories.iter().filter(|category| !category.checks.is_empty()) {
        text.push_str(category.category_name);
        text.push('\n');
        for check in &category.checks {
            let mark = match check.result {
                Verdict::Success => "ok   ",
                Verdict::Warning => "warn ",
                Verdict::Error => "FAIL ",
            };
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "  {mark} {}", printable(&check.description));
            for line in [&check.error, &check.hint].into_iter().flatten() {
                let _ = writeln!(text, "          {}", printable(line));
            }
        }
        text.push('\n');
    }
    text.push_str(match worst(categories) {
        Verdict::Success => "all checks passed\n",
        Verdict::Warning => "some checks warn\n",
        Verdict::Error => "some checks failed\n",
    });
    text
}
