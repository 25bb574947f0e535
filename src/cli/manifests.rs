//! `podswell manifests`: the files of `deploy/base`, embedded, as one stream. The checked-in
//! `deploy/install.yaml` is what this prints; `tests/tidy.rs` holds them equal.

use anyhow::ensure;
use clap::Args;

use crate::runtime::args::DEFAULT_NAMESPACE;

/// The files in the order in which they are applied.
const BASE: &[&str] = &[
    include_str!("../../deploy/base/namespace.yaml"),
    include_str!("../../deploy/base/serviceaccount.yaml"),
    include_str!("../../deploy/base/rbac.yaml"),
    include_str!("../../deploy/base/configmaps.yaml"),
    include_str!("../../deploy/base/service.yaml"),
    include_str!("../../deploy/base/deployment.yaml"),
];

/// The image that `deploy/base/deployment.yaml` names.
const DEFAULT_IMAGE: &str = concat!("podswell:", env!("CARGO_PKG_VERSION"));

#[derive(Args, Debug)]
pub(super) struct ManifestsArgs {
    /// The image to run, for example from a registry of your own
    #[arg(long, default_value = DEFAULT_IMAGE, value_name = "IMAGE")]
    image: String,

    /// The namespace to install into
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAME")]
    namespace: String,
}

pub(super) fn install(args: &ManifestsArgs) -> anyhow::Result<String> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/@".contains(&byte))
    };
    ensure!(plain(&args.image), "{:?} is not the name of an image", args.image);
    ensure!(
        plain(&args.namespace) && !args.namespace.contains([':', '/', '@', '.', '_']),
        "{:?} is not the name of a namespace",
        args.namespace
    );
    Ok(BASE
        .join("---\n")
        .replace(&format!("image: {DEFAULT_IMAGE}"), &format!("image: {}", args.image))
        .replace(DEFAULT_NAMESPACE, &args.namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(image: &str, namespace: &str) -> ManifestsArgs {
        ManifestsArgs { image: image.into(), namespace: namespace.into() }
    }

    #[test]
    fn image_and_namespace_are_replaced_everywhere() {
        let text = install(&args("registry.local/podswell@sha256:00", "scaling")).unwrap();
        assert!(text.contains("image: registry.local/podswell@sha256:00\n"));
        assert!(!text.contains(DEFAULT_NAMESPACE) && !text.contains(DEFAULT_IMAGE));
        assert!(install(&args("a\nb: c", "scaling")).is_err());
        assert!(install(&args("a", "x/y")).is_err());
    }
}
