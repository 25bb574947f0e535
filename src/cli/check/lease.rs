//! Who holds the Lease, and whether he still does. No clock is asked: a lease that is held changes at
//! every renewal, so two looks tell more than any time stamp that a hand may have written.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::cluster::Inspection;
use super::report::{Check, CheckId};
use crate::core::lease::{LeaseRecord, LeaseTiming};
use crate::k8s::lease::{LEASE_NAME, record_of};
use crate::runtime::clock::{Clock, SystemClock, instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(300);

impl Inspection<'_> {
    /// Whether somebody may write, and who.
    pub(super) async fn lease(&self) -> Vec<Check> {
        let namespace = &self.args.namespace;
        let description = format!("a process holds the Lease {LEASE_NAME} in {namespace}");
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let (first, began) = match self.answer(api.get_opt(LEASE_NAME)).await {
            Ok(Some(lease)) => (lease, instant()),
            Ok(None) => {
                let why = "there is none: no process ever stood for election here";
                return vec![Check::warning(CheckId::Lease, description, why)];
            }
            Err(why) => return vec![Check::warning(CheckId::Lease, description, why)],
        };
        let mut lease = first.clone();
        // A holder renews well within the duration.
        while lease.metadata.resource_version == first.metadata.resource_version
            && record_of(&first).holder.is_some()
            && began.elapsed() < LeaseTiming::DEFAULT.duration
        {
            tokio::time::sleep(PAUSE).await;
            lease = match self.answer(api.get(LEASE_NAME)).await {
                Ok(lease) => lease,
                Err(why) => return vec![Check::warning(CheckId::Lease, description, why)],
            };
        }
        let is_renewed = lease.metadata.resource_version != first.metadata.resource_version;
        vec![judge(&record_of(&lease), is_renewed, &age(&lease), description)]
    }
}

/// How long ago it was renewed, by the stamp in it and this machine's clock: for people only.
fn age(lease: &Lease) -> String {
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    renewed.map_or_else(
        || "at no time".to_owned(),
        |at| format!("{} s ago", SystemClock::new().wall().duration_since(at.0).as_secs()),
    )
}

fn judge(record: &LeaseRecord, is_renewed: bool, age: &str, description: String) -> Check {
    let Some(holder) = &record.holder else {
        let why = "nobody holds it, so nothing is written: the last process left it at its end";
        let why = record.oddity().unwrap_or(why);
        return Check::warning(CheckId::Lease, description, why);
    };
    if !is_renewed {
        let why = format!("{holder} let it run out: it renewed it {age}, and not since");
        return Check::error(CheckId::Lease, description, why);
    }
    if !is_podswell(holder) {
        let why = format!("{holder} is not the name of a podswell process, but renews it");
        return Check::warning(CheckId::Lease, description, why);
    }
    if let Some(why) = record.oddity() {
        return Check::warning(CheckId::Lease, description, why);
    }
    let times = record.transitions;
    let good = format!("{description}: {holder} (it changed hands {times} times)");
    Check::good(CheckId::Lease, good)
}

/// Whether a name is one that `podswell run` gives itself: a machine's or pod's, and eight digits.
fn is_podswell(holder: &str) -> bool {
    holder.rsplit_once('_').is_some_and(|(machine, end)| {
        !machine.is_empty() && end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn every_state_of_the_lease_has_one_reason() {
        for (holder, duration_s, is_renewed, result, word) in [
            (Some("podswell-0_0123abcd"), 4, true, Verdict::Success, "podswell-0_0123abcd"),
            (Some("podswell-0_0123abcd"), 4, false, Verdict::Error, "7 s ago"),
            (Some("kubectl"), 4, true, Verdict::Warning, "not the name"),
            (Some("kubectl"), 4, false, Verdict::Error, "kubectl let it run out"),
            (Some("podswell-0_0123abcd"), -4, true, Verdict::Warning, "leaseDurationSeconds"),
            (None, 1, false, Verdict::Warning, "nobody holds it"),
            (None, 4, false, Verdict::Warning, "holderIdentity"),
        ] {
            let holder = holder.map(Into::into);
            let record = LeaseRecord { holder, duration_s, transitions: 2, version: "1".into() };
            let check = judge(&record, is_renewed, "7 s ago", "held".to_owned());
            let said = check.error.unwrap_or(check.description);
            assert_eq!(check.result, result, "{said}");
            assert!(said.contains(word), "{said}");
        }
    }
}
