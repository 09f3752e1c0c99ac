//! Names of challenge entries, and digests of their content. Pure.

use aws_lc_rs::digest::{Context, SHA256};
use cert_lib::{model::name::DnsName, solve::Owner};

use crate::api::Realm;

/// `cert--<domain>-<32 hex digits>`. The digest of owner, realm, class and challenge name makes a truncated
/// or changed name unique. Tenants choose the names of Certificates: with fewer digits, they could find a
/// collision with the entry of another tenant.
pub(super) fn of_entry(owner: &Owner, realm: &Realm, class: &str, fqdn: &DnsName) -> String {
    with_digits(16, owner, realm, class, fqdn)
}

/// The name in older versions, with 8 digits.
pub(super) fn of_older(owner: &Owner, realm: &Realm, class: &str, fqdn: &DnsName) -> String {
    with_digits(4, owner, realm, class, fqdn)
}

fn with_digits(bytes: usize, owner: &Owner, realm: &Realm, class: &str, fqdn: &DnsName) -> String {
    let digest = digest([owner.0.as_str(), realm.as_str(), class, fqdn.as_str()]);
    let digits: String = digest.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect();
    let fqdn = fqdn.as_str().trim_start_matches("*.");
    // The target of a CNAME may contain underscores, which object names cannot contain.
    let domain = fqdn.strip_prefix("_acme-challenge.").unwrap_or(fqdn).replace('_', "x");
    let mut stem = format!("cert--{domain}");
    stem.truncate(MAX_NAME - 1 - digits.len());
    // A truncated name may end with characters that are not allowed before a hyphen.
    format!("{}-{digits}", stem.trim_end_matches(['.', '-']))
}

/// A digest of name and values, for comparison without keeping the values.
pub(super) fn of_content<'a>(
    dns_name: &str,
    values: impl IntoIterator<Item = &'a String>,
) -> [u8; 32] {
    let dns_name = dns_name.trim_end_matches('.').to_ascii_lowercase();
    let mut values: Vec<&str> = values.into_iter().map(String::as_str).collect();
    values.sort_unstable();
    digest([dns_name.as_str()].into_iter().chain(values))
}

/// SHA-256 of `parts` with their lengths, so that the encoding is unambiguous.
fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// Maximum length of an object name.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ClusterId;

    fn name(owner: &str, class: &str, fqdn: &str) -> String {
        of(owner, "s", class, fqdn)
    }

    fn of(owner: &str, cluster: &str, class: &str, fqdn: &str) -> String {
        let realm = Realm::new("c", &ClusterId { id: cluster.into(), former: vec![] });
        of_entry(&Owner(owner.into()), &realm, class, &fqdn.parse().unwrap())
    }

    #[test]
    fn a_name_contains_the_domain_and_is_unique() {
        let one = name("default/web", "", "_acme-challenge.example.org");
        let digits = one.strip_prefix("cert--example.org-").unwrap();
        assert!(digits.len() >= 32 && digits.bytes().all(|it| it.is_ascii_hexdigit()), "{one}");
        assert_eq!(one, name("default/web", "", "_acme-challenge.example.org"));
        for other in [
            name("default/api", "", "_acme-challenge.example.org"),
            name("default/web", "x", "_acme-challenge.example.org"),
            name("default/we", "b", "_acme-challenge.example.org"),
            name("default/web", "", "example.org"),
            of("default/web", "another", "", "_acme-challenge.example.org"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn every_challenge_name_results_in_a_valid_object_name() {
        let label = "a".repeat(60);
        let long = format!("_acme-challenge.{label}.{label}.{label}.b.{}", "c".repeat(50));
        let ends_in_dot = format!("{label}.{label}.{label}.{}.cc.d", "b".repeat(53));
        for fqdn in [&long, &ends_in_dot, "_a.__.x_.example.org", "*.example.org"] {
            let name = name("ns/n", "", fqdn);
            let valid = |label: &str| {
                let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                !label.is_empty()
                    && label.chars().all(inner)
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            assert!(name.len() <= MAX_NAME && name.split('.').all(valid), "{name}");
        }
    }

    #[test]
    fn the_digest_ignores_order_and_case() {
        let values = |list: &[&str]| list.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        let one = of_content("Example.org.", &values(&["a", "b"]));
        assert_eq!(one, of_content("example.org", &values(&["b", "a"])));
        assert_ne!(one, of_content("example.org", &values(&["ab"])));
        assert_ne!(one, of_content("example.com", &values(&["a", "b"])));
    }
}
