//! Solvers that need the values stored before they publish them: any process can remove them.

use super::{delegated::Leads, *};

async fn harness(leads: Leads) -> EngineHarness {
    let board = RecordStore { stores_proofs: true, leads, ..RecordStore::default() };
    EngineHarness::new(CaBehavior::default(), board).await
}

fn records(progress: &Progress) -> Vec<String> {
    progress
        .proofs()
        .iter()
        .filter_map(Proof::txt)
        .map(|(fqdn, values)| format!("{fqdn}={}", values.len()))
        .collect()
}

#[tokio::test]
async fn the_first_write_of_an_order_has_its_values_and_costs_no_request() {
    let bench = harness(Leads::default()).await;
    let request = request(&["example.org", "*.example.org"]);
    let progress = bench.placed(&request).await;
    assert_eq!(records(&stored(&progress)), ["_acme-challenge.example.org=2"]);
    assert_eq!(bench.board_log(), [""; 0]);
    bench.drive(&request, Some(progress)).await.unwrap();
    assert_eq!(
        bench.board_log(),
        ["present _acme-challenge.example.org=2", "cleanup _acme-challenge.example.org=2"]
    );
    let total = bench.http.log().iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(total, 9);
}

/// faults.md 43, 45
#[tokio::test]
async fn another_process_removes_exactly_the_values_of_a_killed_one() {
    for abandons in [true, false] {
        let bench = harness(Leads::default()).await;
        let request = request(&["example.org", "*.example.org"]);
        let progress = bench.placed(&request).await;
        bench.issuer.advance(&request, Some(stored(&progress))).await.unwrap();
        let log = bench.board_log();
        assert_eq!(log.first().unwrap(), "present _acme-challenge.example.org=2");
        if abandons {
            bench.issuer.abandon(&request.owner, &stored(&progress)).await.unwrap();
        } else {
            bench.drive(&request, Some(stored(&progress))).await.unwrap();
        }
        let last = bench.board_log().pop().unwrap();
        assert_eq!(last, "cleanup _acme-challenge.example.org=2", "abandons: {abandons}");
    }
}

#[tokio::test]
async fn values_whose_names_were_unknown_at_first_are_stored_before_they_are_published() {
    let bench = harness(Leads::default()).await;
    let request = request(&["example.org"]);
    let mut progress = stored(&bench.placed(&request).await);
    // As an older version stored it.
    progress.durable.proofs.clear();
    let advance = bench.issuer.advance(&request, Some(progress.clone())).await.unwrap();
    let Advance::Waiting { progress: next, until, .. } = advance else { panic!("issued") };
    assert_eq!((records(&next).len(), until), (1, bench.clock.now()));
    assert!(!next.is_stored_by(&progress));
    assert_eq!(bench.board_log(), [""; 0]);
    bench.drive(&request, Some(stored(&next))).await.unwrap();
    assert_eq!(bench.board_log().len(), 2);
}
