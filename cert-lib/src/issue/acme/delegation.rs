//! Proofs that are published at the target of a CNAME at the challenge name.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    model::name::DnsName,
    solve::{Owner, Proof, SolveError, Solver},
};

/// Moves each DNS-01 proof to the target of its CNAMEs. Those with the same target become one, because
/// all values of one name are published together.
///
/// All of them if the request `asks` for it, otherwise those whose solver does.
pub(super) async fn follow(
    solver: &dyn Solver,
    owner: &Owner,
    proofs: Vec<Proof>,
    asks: bool,
) -> Result<Vec<Proof>, SolveError> {
    let (txt, others): (Vec<_>, Vec<_>) =
        proofs.into_iter().partition(|proof| proof.txt().is_some());
    let moves: Vec<_> = txt
        .iter()
        .filter_map(Proof::txt)
        .map(|(challenge, values)| async move {
            match asks || solver.follows_cnames(owner, challenge) {
                true => Ok((solver.follow(owner, challenge).await?, challenge, values)),
                false => Ok((challenge.clone(), challenge, values)),
            }
        })
        .collect();
    let moved: Vec<_> = stream::iter(moves).buffered(AT_ONCE).try_collect().await?;
    let mut targets: BTreeMap<DnsName, (DnsName, BTreeSet<String>)> = BTreeMap::new();
    for (fqdn, challenge, of_one) in moved {
        let (_, values) = targets.entry(fqdn).or_insert((challenge.clone(), BTreeSet::new()));
        values.extend(of_one.iter().cloned());
    }
    let proof = |(fqdn, (challenge, values)): (_, (_, BTreeSet<_>))| Proof::Txt {
        challenge,
        fqdn,
        values: values.into_iter().collect(),
    };
    Ok(targets.into_iter().map(proof).chain(others).collect())
}

/// `why` the proofs are not visible yet, and where they are published, unless that is at the challenge
/// names of `names`: the reader must know which zone to check.
pub(super) fn explain(why: String, names: &[DnsName], proofs: &[Proof]) -> String {
    let own: BTreeSet<DnsName> = names.iter().map(DnsName::challenge).collect();
    let elsewhere = proofs.iter().filter_map(Proof::txt).map(|(fqdn, _)| fqdn);
    let elsewhere: Vec<&DnsName> = elsewhere.filter(|fqdn| !own.contains(fqdn)).collect();
    let more = elsewhere.len().saturating_sub(MAX_NAMES);
    let listed: Vec<&str> = elsewhere.iter().take(MAX_NAMES).map(|fqdn| fqdn.as_str()).collect();
    match (listed.join(", "), more) {
        (listed, _) if listed.is_empty() => why,
        (listed, 0) => format!("{why} (CNAMEs lead to {listed})"),
        (listed, more) => format!("{why} (CNAMEs lead to {listed} and {more} more)"),
    }
}

/// Chains that are followed at the same time.
const AT_ONCE: usize = 8;
/// Names in one message.
const MAX_NAMES: usize = 3;

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::solve::Readiness;

    /// `*.a.test` is delegated name by name, `*.b.test` to one name, and `loop.test` to nowhere.
    struct World;

    #[async_trait]
    impl Solver for World {
        async fn follow(&self, _: &Owner, challenge: &DnsName) -> Result<DnsName, SolveError> {
            match challenge.as_str() {
                it if it.ends_with("b.test") => Ok(name("all.acme.test")),
                it if it.ends_with("loop.test") => Err(SolveError::Misconfigured(it.to_owned())),
                _ => Ok(challenge.clone()),
            }
        }

        async fn present(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
            Ok(())
        }

        async fn ready(&self, _: &Owner, _: &[Proof]) -> Result<Readiness, SolveError> {
            Ok(Readiness::Ready)
        }

        async fn cleanup(&self, _: &Owner, _: &[Proof]) -> Result<(), SolveError> {
            Ok(())
        }
    }

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    fn proof(fqdn: &str, values: &[&str]) -> Proof {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Proof::at_challenge(name(fqdn), values)
    }

    #[tokio::test]
    async fn names_that_lead_to_one_place_share_one_proof() {
        let proofs = vec![
            proof("_acme-challenge.a.test", &["1"]),
            proof("_acme-challenge.x.b.test", &["3", "5"]),
            proof("_acme-challenge.y.b.test", &["2"]),
        ];
        let followed = follow(&World, &Owner("ns/a".into()), proofs, true).await.unwrap();
        let all = Proof::Txt {
            challenge: name("_acme-challenge.x.b.test"),
            fqdn: name("all.acme.test"),
            values: ["2", "3", "5"].map(str::to_owned).into(),
        };
        assert!(followed == [proof("_acme-challenge.a.test", &["1"]), all.clone()]);

        let names = ["a.test", "x.b.test", "y.b.test"].map(name);
        let said = explain("not yet".to_owned(), &names, &followed);
        assert_eq!(said, "not yet (CNAMEs lead to all.acme.test)");
        let said = explain("not yet".to_owned(), &names[..1], &followed[..1]);
        assert_eq!(said, "not yet");
    }

    #[tokio::test]
    async fn one_name_that_leads_nowhere_stops_all() {
        let proofs = vec![proof("_acme-challenge.a.test", &["1"]), proof("x.loop.test", &["2"])];
        assert!(matches!(
            follow(&World, &Owner("ns/a".into()), proofs, true).await,
            Err(SolveError::Misconfigured(_))
        ));
    }
}
