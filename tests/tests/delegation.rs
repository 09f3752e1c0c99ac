//! Challenge names that are CNAMEs, in zones of a real DNS server.

use std::sync::Arc;

use anyhow::Result;
use cert_lib::{
    clock::System,
    net::dns::Udp,
    solve::dns01::{Nameserver, Propagation, Visibility},
};
use tests::{
    bind::{Bind, Zone},
    processes::logs,
    run,
};

/// Typical records: delegation of single names, wildcards for web servers, and mistakes.
const COMPANY: &str = "
_acme-challenge.app        CNAME app.acme.test.
_acme-challenge.twice      CNAME once
once                       CNAME twice.acme.test.
_acme-challenge.taken      TXT   something
*.lazy                     CNAME web.company.test.
_acme-challenge.own.lazy   CNAME own.acme.test.
_acme-challenge.web.lazy   CNAME web.company.test.
www                        A     127.0.0.1
_acme-challenge.loop       CNAME _acme-challenge.pool
_acme-challenge.pool       CNAME _acme-challenge.loop
renamed                    DNAME acme.test.
_acme-challenge.long       CNAME h1
h1 CNAME h2
h2 CNAME h3
h3 CNAME h4
h4 CNAME h5
h5 CNAME h6
h6 CNAME h7
h7 CNAME h8
h8 CNAME h9
h9 CNAME h10
h10 CNAME h11
h11 CNAME h12
";
const WIDE: &str = "* CNAME web.company.test.";
const ACME: &str = "
app TXT v1
app TXT \"v\" \"2\"
app TXT of-another-client
";

async fn server() -> Result<(Bind, Propagation, Udp)> {
    let zones = [
        ("company.test", Zone::Primary(COMPANY)),
        ("wide.test", Zone::Primary(WIDE)),
        ("acme.test", Zone::Primary(ACME)),
    ];
    let bind = Bind::start(&zones, &logs()?).await?;
    let nameserver: Nameserver = format!("127.0.0.1:{}", bind.port()).parse()?;
    let propagation = Propagation::new(vec![nameserver], Arc::new(System));
    Ok((bind, propagation, Udp::with_servers(vec![])))
}

#[test]
fn explicit_cnames_are_followed_and_those_of_wildcards_are_reported() {
    run(async {
        let (_bind, propagation, resolver) = server().await?;
        for (host, want) in [
            ("app.company.test", Ok("app.acme.test")),
            ("twice.company.test", Ok("twice.acme.test")),
            ("none.company.test", Ok("_acme-challenge.none.company.test")),
            ("taken.company.test", Ok("_acme-challenge.taken.company.test")),
            ("own.lazy.company.test", Ok("own.acme.test")),
            ("renamed.company.test", Ok("_acme-challenge.acme.test")),
            ("lazy.company.test", Err("comes from the wildcard *.lazy.company.test:")),
            ("deep.app.wide.test", Err("comes from the wildcard *.wide.test:")),
            ("wide.test", Err("comes from the wildcard *.wide.test:")),
            ("loop.company.test", Err("found recursive CNAME record to _acme-challenge.loop")),
            ("long.company.test", Err("more than 10 CNAMEs")),
        ] {
            let challenge = host.parse::<cert_lib::model::name::DnsName>()?.challenge();
            let found = propagation.follow(&resolver, &challenge).await;
            match (found, want) {
                (Ok(found), Ok(want)) => assert_eq!(found.as_str(), want, "{host}"),
                (Err(found), Err(want)) => {
                    assert!(found.to_string().contains(want), "{host}: {found}");
                }
                (found, _) => panic!("{host}: {found:?}"),
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn values_are_seen_at_the_target_of_a_cname_and_one_that_is_not_followed_is_reported() {
    run(async {
        let (_bind, propagation, resolver) = server().await?;
        let values = ["v1".to_owned(), "v2".to_owned()];
        for name in ["app.acme.test", "_acme-challenge.app.company.test"] {
            let visibility = propagation.check(&resolver, &name.parse()?, &values).await;
            assert!(matches!(visibility, Visibility::Seen { .. }), "{name}: {visibility:?}");
        }
        let name = "_acme-challenge.twice.company.test".parse()?;
        let visibility = propagation.check(&resolver, &name, &values).await;
        let Visibility::NotSeen { why } = visibility else { panic!("{visibility:?}") };
        assert!(
            why.contains("answers with a CNAME to once.company.test; set followCNAME"),
            "{why}"
        );
        Ok(())
    })
    .unwrap();
}
