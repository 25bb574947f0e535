//! A real control plane on one machine, for tests that must not be fooled by a mock.
//!
//! In reading order:
//!
//! - [`controlplane`]: etcd, kube-apiserver and kube-controller-manager as child processes.
//! - [`node`]: plays the kubelet; every pod is a real HTTP server on a loopback address of its own.
//! - [`load`]: keeps requests in flight at the pods of a Deployment.
//! - [`prometheus`]: Debian's Prometheus, scraping those pods.
//! - [`proxy`]: troubles on the way to an API server or any other HTTP server.
//! - [`external`]: `external.metrics.k8s.io` with one number a Deployment.
//! - [`deployment`]: Deployments and their scale in one line.
//! - [`wait`]: waits for a state, or sees to it that it stays.
//! - [`bench`]: the start of programs that measure.
//!
//! No process outlives the test: every child is on a leash ([`process`]). All traffic stays on the
//! loopback range.

pub(crate) mod app;
pub(crate) mod bench;
pub(crate) mod binaries;
pub(crate) mod certificates;
pub(crate) mod clock;
pub(crate) mod controlplane;
pub(crate) mod deployment;
pub(crate) mod external;
pub(crate) mod http;
pub(crate) mod kubeconfig;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod parts;
pub(crate) mod podswell;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod stat;
pub(crate) mod table;
pub(crate) mod wait;
