//! Backups: copies of certificate Secrets, to revoke a certificate after its renewal.

use cert_lib::model::{bundle::Leaf, request};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;

use super::{IssuerKey, Realm, names, secret::entry, time::seconds, well_known};

/// Namespace of backups, as in upstream.
pub const NAMESPACE: &str = "kube-system";

/// Maximum size of a copied chain. Of a larger one, only the leaf is copied.
const MAX_CHAIN: usize = 32 * 1024;

/// Maximum number of backups for one namespace. Issuers of the operator have quotas and limits; issuers
/// of tenants do not.
#[must_use]
pub fn max_backups(issuer: &IssuerKey) -> u32 {
    match issuer {
        IssuerKey::Default(_) => 10_000,
        IssuerKey::Target(_) => 100,
    }
}

/// Renders the backup of a certificate of `tenant`. It contains only the chain and the key, and only our
/// labels and annotations, so that selectors of other controllers do not match. It has no owner.
#[must_use]
pub fn render(
    tenant: &str,
    realm: &Realm,
    issuer: &IssuerKey,
    leaf: &Leaf,
    secret: &Secret,
) -> Secret {
    let labels = secret.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(well_known::HASH)).cloned().unwrap_or_default();
    let true_ = || "true".to_owned();
    let mut annotations = secret.metadata.annotations.clone().unwrap_or_default();
    let kept = [well_known::REQUESTED_AT, well_known::REVOKED, well_known::REVOKED_CERTIFICATE];
    annotations.retain(|name, _| kept.contains(&name.as_str()));
    annotations.insert(well_known::BACKUP_OF.to_owned(), tenant.to_owned());
    annotations.insert(well_known::BACKUP_ISSUER.to_owned(), issuer.to_string());
    annotations.insert(well_known::REALM.to_owned(), realm.as_str().to_owned());
    annotations.insert(well_known::NOT_AFTER.to_owned(), seconds(leaf.not_after));
    let data = [("tls.crt", chain(secret)), ("tls.key", entry(secret, "tls.key").to_vec())];
    let data = data.map(|(name, bytes)| (name.to_owned(), ByteString(bytes)));
    Secret {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(name(tenant, &issuer.to_string(), leaf, &hash)),
            labels: Some(
                [
                    (well_known::CERTIFICATE.to_owned(), true_()),
                    (well_known::BACKUP.to_owned(), true_()),
                    (well_known::SERIAL.to_owned(), label(&leaf.serial)),
                    (well_known::HASH.to_owned(), hash),
                ]
                .into(),
            ),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        type_: secret.type_.clone(),
        data: Some(data.into()),
        ..Secret::default()
    }
}

fn chain(secret: &Secret) -> Vec<u8> {
    const END: &[u8] = b"-----END CERTIFICATE-----\n";
    let whole = entry(secret, "tls.crt");
    let leaf = whole.windows(END.len()).position(|window| window == END).map(|at| at + END.len());
    let kept = leaf.filter(|_| whole.len() > MAX_CHAIN).unwrap_or(whole.len());
    whole.get(..kept).unwrap_or_default().to_vec()
}

/// `cert-backup-<issuer>-<last 8 hex digits of the serial number>-<32 digits of a digest>`. Upstream
/// appends 5 random characters. The digest of tenant, certificate and request makes the name unique,
/// and the same in a repetition after a crash.
fn name(tenant: &str, issuer: &str, leaf: &Leaf, hash: &str) -> String {
    let issuer = issuer.rsplit('/').next().unwrap_or(issuer);
    let serial = &leaf.serial;
    let tail = serial.get(serial.len().saturating_sub(8)..).unwrap_or(serial);
    let parts = format!("{tenant}\n{issuer}\n{:?}\n{hash}", leaf.digest);
    let digest = request::digest(parts.as_bytes());
    let digits = digest.get(..32).unwrap_or(&digest);
    names::derived(&format!("cert-backup-{issuer}"), &format!("{tail}-{digits}"))
}

/// The label value of a serial number: without leading zeros, as in upstream. Serial numbers have at max_backups
/// 20 octets (RFC 5280 section 4.1.2.2), but a CA may violate that, and labels have at max_backups 63 characters.
#[must_use]
pub fn label(serial: &str) -> String {
    serial.trim_start_matches('0').chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_has_the_format_of_upstream() {
        for (serial, text) in [("3bdc", "3bdc"), ("03bd", "3bd"), ("00bd", "bd"), ("01", "1")] {
            assert_eq!(label(serial), text);
        }
    }

    fn certificate() -> (Leaf, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x3b, 0xdc, 0xf1, 0x06, 0xe1]));
        let pem = params.self_signed(&key).unwrap().pem();
        let leaf = cert_lib::model::bundle::Bundle::from_pem(pem.as_bytes(), None).unwrap().leaf;
        (leaf, pem)
    }

    #[test]
    fn the_name_of_a_backup_is_unique_and_deterministic() {
        let (leaf, _) = certificate();
        let of = |tenant: &str, issuer: &str, hash: &str| name(tenant, issuer, &leaf, hash);
        let one = of("s:ns", "pebble", "ca5b9");
        let digits = one.strip_prefix("cert-backup-pebble-dcf106e1-").unwrap();
        assert!(digits.len() == 32 && digits.bytes().all(|it| it.is_ascii_hexdigit()), "{one}");
        assert_eq!(one, of("s:ns", "pebble", "ca5b9"));
        let other = name("s:ns", "pebble", &certificate().0, "ca5b9");
        for other in [of("s:other", "pebble", "ca5b9"), of("s:ns", "pebble", "ca5b8"), other] {
            assert_ne!(one, other);
        }
        assert!(of("s:ns", "target:ns/le", "").starts_with("cert-backup-le-"));
        let long = of("s:ns", &format!("{}.{}", "a".repeat(189), "b".repeat(60)), "");
        assert!(long.len() <= 253 && !long.contains(".-"), "{long}");
    }

    #[test]
    fn a_backup_contains_only_chain_and_key() {
        let (leaf, pem) = certificate();
        let copy = |chain: &str| {
            let entry = |name: &str, text: &str| (name.to_owned(), ByteString(text.into()));
            let all = [
                entry("tls.crt", chain),
                entry("tls.key", "key"),
                entry("ca.crt", &"x".repeat(500_000)),
                entry("keystore.jks", "x"),
            ];
            let secret = Secret { data: Some(all.into()), ..Secret::default() };
            let issuer = IssuerKey::Default("le".to_owned());
            render("s:ns", &Realm::default(), &issuer, &leaf, &secret).data.unwrap()
        };
        let data = copy(&pem.repeat(3));
        assert_eq!(data.keys().collect::<Vec<_>>(), ["tls.crt", "tls.key"]);
        assert_eq!(data["tls.crt"].0, pem.repeat(3).into_bytes());
        assert_eq!(copy(&pem.repeat(500))["tls.crt"].0, pem.into_bytes());
    }
}
