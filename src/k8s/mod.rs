//! The Kubernetes side: watches become facts, decisions become writes of the scale subresource.
//!
//! On a workload nothing but its replicas is ever written, and beside it only Kubernetes Events.

pub mod facts;
pub mod index;
mod ownership;
