//! Orders whose challenge names are CNAMEs.

use super::*;

/// The targets of CNAMEs at challenge names; one without a target must not be followed.
#[derive(Default)]
pub(super) struct Leads(Vec<(&'static str, Option<&'static str>)>);

impl Leads {
    pub(super) fn follow(&self, challenge: &DnsName) -> Result<DnsName, SolveError> {
        let found = self.0.iter().find(|(from, _)| *from == challenge.as_str());
        match found.map(|(_, to)| to) {
            None => Ok(challenge.clone()),
            Some(Some(to)) => Ok(to.parse().unwrap()),
            Some(None) => Err(SolveError::Misconfigured(format!("{challenge} leads astray"))),
        }
    }
}

fn board(leads: &[(&'static str, Option<&'static str>)]) -> RecordStore {
    RecordStore { leads: Leads(leads.to_vec()), ..RecordStore::default() }
}

fn following(names: &[&str]) -> Request {
    let mut request = request(names);
    request.acme.follow_cname = true;
    request
}

const A: &str = "_acme-challenge.a.example.org";
const B: &str = "_acme-challenge.b.example.org";

#[tokio::test]
async fn proofs_go_where_cnames_lead_only_where_that_is_asked_for() {
    for (request, want) in [
        (following(&["a.example.org", "*.a.example.org"]), "x.acme.test=2"),
        (request(&["a.example.org"]), "_acme-challenge.a.example.org=1"),
    ] {
        let bench =
            EngineHarness::new(CaBehavior::default(), board(&[(A, Some("x.acme.test"))])).await;
        bench.issue(&request).await.unwrap();
        let log = bench.board_log();
        assert_eq!(log[0], format!("present {want}"));
        assert!(log[1].starts_with(&format!("cleanup {want}")), "{log:?}");
    }
}

#[tokio::test]
async fn the_place_is_shown_while_it_is_waited_for_and_found_again_by_the_next_process() {
    let looks = Mutex::new([not_yet(5), not_yet(5)].into());
    let leads = board(&[(A, Some("x.acme.test")), (B, Some("x.acme.test"))]).leads;
    let bench = EngineHarness::new(
        CaBehavior::default(),
        RecordStore { looks, leads, ..RecordStore::default() },
    )
    .await;
    let request = following(&["a.example.org", "b.example.org"]);
    let mut progress = None;
    for _ in 0..3 {
        progress = progress.as_ref().map(stored);
        if let Some((Phase::Propagating(why), _)) = bench.step(&request, &mut progress).await {
            assert_eq!(why, "ns1 has no record (CNAMEs lead to x.acme.test)");
        }
    }
    assert_eq!(bench.board_log(), ["present x.acme.test=2"; 2]);
    bench.drive(&request, progress).await.unwrap();
}

#[tokio::test]
async fn a_cname_that_must_not_be_followed_ends_the_order_before_anything_is_published() {
    let bench = EngineHarness::new(CaBehavior::default(), board(&[(A, None)])).await;
    let error = bench.issue(&following(&["a.example.org"])).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry(RetrySchedule::Validation));
    assert_eq!(error.to_string(), format!("following CNAMEs failed: {A} leads astray"));
    assert_eq!(bench.board_log(), [""; 0]);
}
