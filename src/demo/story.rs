//! The guided tour: what to look at, in which order, what to break on the way, and the same on the command
//! line.

use serde_json::{Value, json};

/// One step of the tour.
struct Step {
    title: &'static str,
    text: &'static str,
    /// `namespace/name` of the workload to look at; empty: the list.
    look: &'static str,
    /// The fault to switch on.
    fault: Option<&'static str>,
    /// The same on the command line, with `SERVER` and `KUBECONFIG` in it.
    command: &'static str,
}

const STEPS: [Step; 8] = [
    Step {
        title: "Calm",
        text: "checkout's windows fill. How it was decided shows the formula with its numbers: the mean \
               load, divided by what one pod should carry, rounded up.",
        look: "shop/checkout",
        fault: None,
        command: "podswell explain deploy/checkout -n shop --server SERVER",
    },
    Step {
        title: "The flash sale",
        text: "Every 75 s of the story ten times the load arrives. The panic window sees it first: red \
               shade, and all pods in one step. While panic lasts nothing is lowered. The dotted line is \
               what an HPA would have made of it.",
        look: "shop/checkout",
        fault: None,
        command: "kubectl --kubeconfig KUBECONFIG get deploy/checkout -w",
    },
    Step {
        title: "Pull the plug",
        text: "Prometheus goes down. search's signal becomes lost and its replicas stay: unknown is not \
               zero. checkout does not care, its pods are asked themselves.",
        look: "shop/search",
        fault: Some("prometheus-down"),
        command: "curl -X POST SERVER/v1/demo/faults/prometheus-down",
    },
    Step {
        title: "Lose the lease",
        text: "Another process takes the lease, and does nothing with it. The line at the top says stands \
               by: podswell goes on deciding and writes nothing, until the lease is its own again.",
        look: "",
        fault: Some("leader-lost"),
        command: "curl -X POST SERVER/v1/demo/faults/leader-lost",
    },
    Step {
        title: "Somebody reverts",
        text: "A GitOps tool sets checkout back to one replica every 2 s. podswell notices the fight, names \
               the field's manager, and writes more and more rarely.",
        look: "shop/checkout",
        fault: Some("gitops-reverts"),
        command: "curl -X POST SERVER/v1/demo/faults/gitops-reverts",
    },
    Step {
        title: "A rival",
        text: "legacy-api has a HorizontalPodAutoscaler. Two writers would fight, so podswell only watches: \
               the decision is there to compare, and its gate says why it is not written.",
        look: "shop/legacy-api",
        fault: None,
        command: "podswell explain deploy/legacy-api -n shop --server SERVER",
    },
    Step {
        title: "Change something yourself",
        text: "The played cluster takes kubectl. Raise the floor of search and watch its replicas follow.",
        look: "shop/search",
        fault: None,
        command: "kubectl --kubeconfig KUBECONFIG annotate deploy/search \
                  autoscaling.knative.dev/min-scale=7",
    },
    Step {
        title: "The score",
        text: "Below, the scorecard: what podswell cost here and how much load it left waiting, beside what \
               an HPA would have made of the same load.",
        look: "",
        fault: None,
        command: "curl SERVER/v1/demo/score",
    },
];

/// The steps, with what the commands have to name.
pub(super) fn steps(server: &str, kubeconfig: &str) -> Vec<Value> {
    let show = |step: &Step| {
        let command = step.command.replace("SERVER", server).replace("KUBECONFIG", kubeconfig);
        json!({
            "title": step.title, "text": step.text, "look": step.look, "fault": step.fault,
            "command": command,
        })
    };
    STEPS.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cast::cast;
    use crate::demo::faults::NAMES;

    #[test]
    fn the_tour_names_what_there_is() {
        let cast = cast(1, None);
        for step in &STEPS {
            let is_there = |look: &str| {
                cast.iter().any(|actor| format!("{}/{}", actor.namespace, actor.name) == look)
            };
            assert!(step.look.is_empty() || is_there(step.look), "{}", step.look);
            if let Some(fault) = step.fault {
                assert!(NAMES.iter().any(|(name, _)| *name == fault), "{fault}");
                assert!(step.command.ends_with(fault), "{}", step.command);
            }
        }
    }
}
