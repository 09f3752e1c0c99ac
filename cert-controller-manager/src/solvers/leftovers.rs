//! Records that could not be removed: their server did not answer, or refused. They are removed
//! later, also after the order, the Certificate and the issuer are gone.
//!
//! In memory: a restart forgets them. The values of a finished order prove nothing. Only for servers
//! of the operator: a tenant's server that never answers must not delay others.

use std::{convert::Infallible, sync::Arc, time::Duration};

use cert_lib::solve::{Owner, Proof};
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::{dns_server::DnsServerSolver, entry::SolverEntry};

/// See the [module](self).
#[derive(Default)]
pub struct Leftovers(Mutex<Vec<Leftover>>);

/// The values of one name.
struct Leftover {
    solver: Arc<DnsServerSolver>,
    owner: Owner,
    proof: Proof,
    attempts: u32,
}

impl Leftovers {
    /// Adds records to remove later, if the operator chose their server. Those that are too many
    /// stay in their zone.
    pub fn add(&self, solver: &Arc<DnsServerSolver>, owner: &Owner, proofs: &[Proof]) {
        if solver.of_tenant {
            return;
        }
        let has_values = |proof: &&Proof| proof.txt().is_some_and(|(_, values)| !values.is_empty());
        let mut all = self.0.lock();
        let room = MAX_LEFTOVERS.saturating_sub(all.len());
        all.extend(proofs.iter().filter(has_values).take(room).map(|proof| Leftover {
            solver: solver.clone(),
            owner: owner.clone(),
            proof: proof.clone(),
            attempts: 0,
        }));
    }

    /// Removes what can be removed now. An entry is given up after [`MAX_ATTEMPTS`].
    async fn retry(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        let attempts: Vec<_> = all.into_iter().map(|leftover| self.attempt(leftover)).collect();
        stream::iter(attempts).buffer_unordered(PARALLEL).collect::<Vec<()>>().await;
    }

    async fn attempt(&self, leftover: Leftover) {
        let Leftover { solver, owner, proof, attempts } = leftover;
        let removed = solver.solver(None).cleanup(&owner, std::slice::from_ref(&proof)).await;
        let Err(error) = removed else { return };
        let attempts = attempts + 1;
        if attempts >= MAX_ATTEMPTS {
            tracing::warn!(owner = %owner.0, "{proof:?} of {} stays in its zone, remove it by hand: {error}", owner.0);
            return;
        }
        self.0.lock().push(Leftover { solver, owner, proof, attempts });
    }

    /// Retries until the process ends.
    pub async fn run(&self) -> Infallible {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.retry().await;
        }
    }
}

/// Between two attempts.
const INTERVAL: Duration = Duration::from_secs(30);
/// A day.
const MAX_ATTEMPTS: u32 = 2880;
/// Names with values: some megabytes.
const MAX_LEFTOVERS: usize = 10_000;
/// Attempts at the same time: one server that never answers does not delay the others much.
const PARALLEL: usize = 16;

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use cert_lib::{
        clock::System,
        model::name::DnsName,
        net::dns::Udp,
        solve::{
            SolveError,
            dns_records::{DnsRecords, DnsRecordsSolver},
            dns01::Propagation,
        },
    };

    use super::*;

    /// A server that fails so many times, and counts its calls.
    struct Server(Mutex<(usize, usize)>);

    #[async_trait]
    impl DnsRecords for Server {
        async fn add(&self, _: &DnsName, _: &[String]) -> Result<(), SolveError> {
            Ok(())
        }

        async fn remove(&self, _: &DnsName, _: &[String]) -> Result<(), SolveError> {
            let mut state = self.0.lock();
            let (failures, calls) = &mut *state;
            *calls += 1;
            if *failures == 0 {
                return Ok(());
            }
            *failures -= 1;
            Err(SolveError::Unavailable("down".to_owned()))
        }
    }

    fn solver(server: Arc<Server>, of_tenant: bool) -> Arc<DnsServerSolver> {
        let clock = Arc::new(System);
        let propagation = Arc::new(Propagation::new(vec![], clock.clone()));
        let resolver = Arc::new(Udp::with_servers(vec![]));
        let solver = Ok(DnsRecordsSolver::new(server, propagation, resolver, clock));
        Arc::new(DnsServerSolver { name: "test".to_owned(), of_tenant, solver })
    }

    fn proof(name: &str, values: &[&str]) -> Proof {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Proof::at_challenge(name.parse().unwrap(), values)
    }

    #[tokio::test]
    async fn records_are_removed_as_soon_as_their_server_permits_it() {
        let server = Arc::new(Server(Mutex::new((3, 0))));
        let solver = solver(server.clone(), false);
        let (leftovers, owner) = (Leftovers::default(), Owner("ns/a".to_owned()));
        let proofs = [proof("a.test", &["1"]), proof("b.test", &["2"]), proof("c.test", &[])];
        leftovers.add(&solver, &owner, &proofs);
        for (left, calls) in [(2, 2), (1, 4), (0, 5), (0, 5)] {
            leftovers.retry().await;
            assert_eq!((leftovers.0.lock().len(), server.0.lock().1), (left, calls));
        }
    }

    #[test]
    fn servers_of_tenants_cost_nothing_and_memory_is_bounded() {
        let server = Arc::new(Server(Mutex::new((0, 0))));
        let (leftovers, owner) = (Leftovers::default(), Owner("ns/a".to_owned()));
        let many = vec![proof("a.test", &["1"]); MAX_LEFTOVERS + 5];
        leftovers.add(&solver(server.clone(), true), &owner, &many);
        assert_eq!(leftovers.0.lock().len(), 0);
        leftovers.add(&solver(server, false), &owner, &many);
        assert_eq!(leftovers.0.lock().len(), MAX_LEFTOVERS);
    }
}
