//! Whose decision this process answers with: its own while it holds the lease, else the holder's, which it
//! asks for it. Readers look here before they read the status board.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Where the holder answers other processes, and by which word it knows them. Both stand in the Lease,
/// which only podswell's own processes and administrators can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// `ADDRESS:PORT`.
    pub address: Arc<str>,
    /// The bearer token.
    pub token: Arc<str>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What is known of the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether the newest lease that was read is this process's own, or there is no election.
    pub is_ours: bool,
    /// Whether this process leads by it.
    pub leads: bool,
    /// How often the lease changed hands: the epoch of the holder's decisions.
    pub epoch: i32,
    /// Where the holder answers, if it is another process that does.
    pub peer: Option<Peer>,
}

/// The process's role: written by the election, read by the servers.
pub struct RoleBoard {
    role: watch::Sender<Role>,
    leads: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for RoleBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleBoard").field("role", &*self.role.borrow()).finish_non_exhaustive()
    }
}

impl RoleBoard {
    /// A process of which nothing is known yet. `leads` says whether it may write at this moment.
    pub fn new(leads: Box<dyn Fn() -> bool + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { role: watch::Sender::default(), leads })
    }

    /// A process without others.
    pub fn alone() -> Arc<Self> {
        let board = Self::new(Box::new(|| true));
        board.set(Role { is_ours: true, leads: true, ..Role::default() });
        board
    }

    /// Takes over what is known of the lease.
    pub fn set(&self, role: Role) {
        self.role.send_if_modified(|old| {
            let changed = *old != role;
            *old = role;
            changed
        });
    }

    /// Whether this process's decisions are the ones to answer machines with: it may write at this
    /// moment.
    pub fn decides(&self) -> bool {
        self.role.borrow().is_ours && (self.leads)()
    }

    /// Whether this process's decisions are the newest that anybody has: no other process is known to
    /// hold the lease since. That is enough for people, who want to see something when the API server
    /// is gone.
    pub fn is_last_holder(&self) -> bool {
        self.role.borrow().is_ours
    }

    /// Where the holder answers, if that is known.
    pub fn peer(&self) -> Option<Peer> {
        self.role.borrow().peer.clone()
    }

    /// The epoch of the holder.
    pub fn epoch(&self) -> i32 {
        self.role.borrow().epoch
    }

    /// Tells of changes.
    pub fn follow(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }
}
