//! podswell as a Deployment of the API server has it: what a kubelet would make of its pods' arguments,
//! environment, volumes and service account, as processes with addresses of their own.

use std::net::Ipv4Addr;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, Secret, Volume, VolumeMount};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use crate::support::controlplane::ControlPlane;
use crate::support::podswell::{Podswell, PodswellOptions};

/// Its namespace.
pub(crate) const SYSTEM: &str = "podswell-system";

/// Starts what the pods of its Deployment say, each at one of these addresses.
///
/// # Panics
/// If there are not as many pods as addresses.
pub(crate) async fn start<const N: usize>(
    plane: &ControlPlane,
    addresses: [Ipv4Addr; N],
) -> [Podswell; N] {
    let pods: Api<Pod> = Api::namespaced(plane.client(), SYSTEM);
    let controllers = ListParams::default().labels("app.kubernetes.io/component=controller");
    let mut pods = pods.list(&controllers).await.expect("list pods").items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    assert_eq!(pods.len(), N, "pods of podswell");
    let mut processes = Vec::new();
    for (pod, address) in pods.iter().zip(addresses) {
        processes.push(start_one(plane, pod, address).await);
    }
    processes.try_into().expect("as many processes")
}

async fn start_one(plane: &ControlPlane, pod: &Pod, address: Ipv4Addr) -> Podswell {
    let spec = pod.spec.as_ref().expect("a pod has a spec");
    let account = spec.service_account_name.as_deref().expect("a service account");
    let kubeconfig = plane.kubeconfig_for_service_account(SYSTEM, account).await;
    let container = spec.containers.first().expect("a container");
    let folder = plane.folder().join("volumes").join(pod.name_any());
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    for mount in mounts(container) {
        let folder = folder.join(&mount.name);
        std::fs::create_dir_all(&folder).expect("make a volume");
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        write_secret(plane, volume.expect("what is mounted is a volume"), &folder).await;
    }
    let variables = container.env.as_deref().unwrap_or_default();
    let environment = variables.iter().map(|variable| {
        (variable.name.clone(), local(&value(variable, pod, address), container, &folder, address))
    });
    let mut arguments = container.args.clone().unwrap_or_default();
    assert_eq!(arguments.first().map(String::as_str), Some("run"), "{arguments:?}");
    let flags = arguments.split_off(1).iter().map(|flag| on_own_address(flag, address)).collect();
    let environment = environment.collect();
    let namespace = SYSTEM.to_owned();
    let options = PodswellOptions { namespace, flags, environment };
    Podswell::start_with(plane.folder(), &kubeconfig, options).await
}

fn mounts(container: &Container) -> impl Iterator<Item = &VolumeMount> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default().iter();
    // The token is in the kubeconfig.
    mounts.filter(|mount| !mount.mount_path.starts_with("/var/run/secrets/kubernetes.io"))
}

async fn write_secret(plane: &ControlPlane, volume: &Volume, folder: &Path) {
    let Some(name) = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref()) else {
        assert!(volume.empty_dir.is_some(), "what kind of volume is {volume:?}?");
        return;
    };
    let secrets: Api<Secret> = Api::namespaced(plane.client(), SYSTEM);
    let secret = secrets.get(name).await.expect("the secret of a volume");
    for (key, text) in secret.data.unwrap_or_default() {
        std::fs::write(folder.join(key), text.0).expect("write a file of a secret");
    }
}

/// The value of a variable in the pod.
fn value(variable: &EnvVar, pod: &Pod, address: Ipv4Addr) -> String {
    if let Some(value) = &variable.value {
        return value.clone();
    }
    let source = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    match source.map(|field| &*field.field_path) {
        Some("metadata.name") => pod.name_any(),
        Some("metadata.namespace") => SYSTEM.to_owned(),
        Some("status.podIP") => address.to_string(),
        other => panic!("{}: {other:?}", variable.name),
    }
}

/// The same on this machine, where pods share the network and the files.
fn local(value: &str, container: &Container, folder: &Path, address: Ipv4Addr) -> String {
    for mount in mounts(container) {
        if let Some(file) = value.strip_prefix(&*mount.mount_path) {
            return format!("{}{file}", folder.join(&mount.name).display());
        }
    }
    on_own_address(value, address)
}

/// A port on all addresses becomes one of the pod's own address.
fn on_own_address(value: &str, address: Ipv4Addr) -> String {
    let (flag, listen) = value
        .rsplit_once('=')
        .map_or(("", value), |(_, listen)| (&value[..value.len() - listen.len()], listen));
    match listen.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
        Some(port) => format!("{flag}{address}:{port}"),
        None => value.to_owned(),
    }
}
