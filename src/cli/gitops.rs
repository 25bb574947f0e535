//! `podswell gitops`: how a tool that applies manifests again and again is told to leave replicas alone.
//!
//! Two writers of one field undo each other's work. The cure has two halves: the tool no longer compares
//! the field, and the manifest no longer holds it. Their order matters, because a field that is removed
//! while its old owner still holds it falls back to one replica.

use clap::{Args, ValueEnum};

use super::explain::parse_target;
use crate::k8s::FIELD_MANAGER;
use crate::runtime::args::parse_namespace;

#[derive(Args, Debug)]
pub(super) struct GitopsArgs {
    /// The Deployment: deploy/NAME or NAME
    #[arg(value_name = "deploy/NAME", value_parser = parse_target)]
    target: String,

    /// The tool that applies its manifest
    #[arg(long = "for", value_enum, value_name = "TOOL")]
    tool: Tool,

    /// Its namespace
    #[arg(short, long, default_value = "default", value_name = "NAME", value_parser = parse_namespace)]
    namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// Argo CD
    Argocd,
    /// Flux, or any other that builds with Kustomize
    Flux,
    /// Helm
    Helm,
}

pub(super) fn recipe(args: &GitopsArgs) -> String {
    let handover = include_str!("gitops/handover.txt");
    let recipe = match args.tool {
        Tool::Argocd => include_str!("gitops/argocd.txt").replace("{handover}\n", handover),
        Tool::Flux => include_str!("gitops/flux.txt").replace("{handover}\n", handover),
        Tool::Helm => include_str!("gitops/helm.txt").to_owned(),
    };
    recipe
        .replace("{name}", &args.target)
        .replace("{namespace}", &args.namespace)
        .replace("{manager}", FIELD_MANAGER)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: GitopsArgs,
    }

    fn printed(tool: &str) -> String {
        let args = ["gitops", "--for", tool, "deploy/checkout", "-n", "shop"];
        recipe(&Wrapper::try_parse_from(args).unwrap().args)
    }

    #[test]
    fn recipes() {
        for tool in ["argocd", "flux", "helm"] {
            let text = printed(tool);
            for hole in ["{name}", "{namespace}", "{manager}", "{handover}"] {
                assert!(!text.contains(hole), "{tool}: {hole}");
            }
            assert!(text.lines().all(|line| line.len() <= 120), "{tool}");
            insta::assert_snapshot!(tool, text);
        }
    }

    #[test]
    fn every_line_is_a_comment_or_can_be_used_as_it_is() {
        let argo: String = printed("argocd")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n");
        let value: serde_json::Value = serde_saphyr::from_str(&argo).unwrap();
        let rule = &value["spec"]["ignoreDifferences"][0];
        assert_eq!(rule["managedFieldsManagers"][0], FIELD_MANAGER);
        assert_eq!(rule["name"], "checkout");
        assert_eq!(value["spec"]["syncPolicy"]["syncOptions"][0], "RespectIgnoreDifferences=true");
        let flux: String = printed("flux")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n");
        let value: serde_json::Value = serde_saphyr::from_str(&flux).unwrap();
        let patch = value["patches"][0]["patch"].as_str().unwrap();
        let patch: serde_json::Value = serde_saphyr::from_str(patch).unwrap();
        assert_eq!(
            (&patch[0]["op"], &patch[0]["path"]),
            (&"remove".into(), &"/spec/replicas".into())
        );
    }

    #[test]
    fn names_are_checked() {
        for args in [["--for", "argocd", "sts/a"], ["--for", "jenkins", "a"]] {
            assert!(Wrapper::try_parse_from([&["gitops"][..], &args].concat()).is_err());
        }
    }
}
