//! Where podswell looks: in the whole cluster, or in named namespaces only.
//!
//! With rights in some namespaces only, every kind is watched once a namespace, so that a namespace
//! that does not exist or may not be read disturbs only itself. The namespaces' own annotations cannot
//! be watched with such rights, because a Role gives no right to list what has no namespace; but it
//! may give the right to `get` its own namespace, so that one is asked for it again and again.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};

use super::K8sError;
use super::facts::{self, NamespaceFacts};

/// How often a namespace's annotations are read where they cannot be watched.
const NAMESPACE_PERIOD: Duration = Duration::from_secs(10);

/// The pause after a question for a namespace that failed.
const NAMESPACE_RETRY: Duration = Duration::from_secs(3);

/// What one watch covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All namespaces.
    Everywhere,
    /// One of them.
    Namespace(Arc<str>),
}

impl Scope {
    /// What the watches of a process cover: these namespaces, or everything if there are none.
    pub(super) fn all(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            return vec![Self::Everywhere];
        }
        namespaces.iter().map(|name| Self::Namespace(name.as_str().into())).collect()
    }

    /// Whether an object of this namespace belongs to it.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Namespace(name) => **name == *namespace,
        }
    }

    /// The namespace, if it is only one.
    pub fn namespace(&self) -> Option<&Arc<str>> {
        match self {
            Self::Everywhere => None,
            Self::Namespace(name) => Some(name),
        }
    }

    /// The name of the watch of a kind.
    pub(super) fn watch_name(&self, kind: &str) -> Arc<str> {
        match self {
            Self::Everywhere => kind.into(),
            Self::Namespace(name) => format!("{kind} in {name}").into(),
        }
    }

    /// The objects of a kind that it covers.
    pub(super) fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::Everywhere => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }
}

/// What a question for one namespace came to.
pub(super) enum NamespaceNews {
    /// It was read, or is not there.
    Read(Option<NamespaceFacts>),
    /// It cannot be read at present.
    Failed(K8sError),
    /// It may not be read at all; what was known of it before stays.
    Forbidden(K8sError),
}

/// Reads one namespace again and again, without end.
pub(super) fn poll_namespace(
    client: &Client,
    name: &Arc<str>,
) -> BoxStream<'static, NamespaceNews> {
    let api: Api<Namespace> = Api::all(client.clone());
    questions(api, name.clone()).boxed()
}

fn questions(api: Api<Namespace>, name: Arc<str>) -> impl Stream<Item = NamespaceNews> + Send {
    stream::unfold((api, name, Duration::ZERO), |(api, name, pause)| async move {
        tokio::time::sleep(pause).await;
        let refused = |why: &kube::Error, status: u16| matches!(why, kube::Error::Api(of) if of.code == status);
        let news = match api.get_metadata(&name).await {
            Ok(found) => NamespaceNews::Read(facts::namespace(found)),
            Err(why) if refused(&why, 404) => NamespaceNews::Read(None),
            Err(why) if refused(&why, 403) => NamespaceNews::Forbidden(failed(why)),
            Err(why) => NamespaceNews::Failed(failed(why)),
        };
        let is_read = matches!(news, NamespaceNews::Read(_));
        let pause = if is_read { NAMESPACE_PERIOD } else { NAMESPACE_RETRY };
        Some((news, (api, name, pause)))
    })
}

fn failed(source: kube::Error) -> K8sError {
    let source = Box::new(watcher::Error::InitialListFailed(source));
    K8sError::Watch { what: "namespaces", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_cover_what_they_name() {
        assert_eq!(Scope::all(&[]), [Scope::Everywhere]);
        let scopes = Scope::all(&["a".to_owned(), "b".to_owned()]);
        let covers = |namespace| scopes.iter().map(|of| of.covers(namespace)).collect::<Vec<_>>();
        assert_eq!(covers("a"), [true, false]);
        assert_eq!(covers("c"), [false, false]);
        assert!(Scope::Everywhere.covers("c"));
        assert_eq!(&*scopes[1].watch_name("pods"), "pods in b");
        assert_eq!(&*Scope::Everywhere.watch_name("pods"), "pods");
    }
}
