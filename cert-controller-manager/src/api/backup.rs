//! How a backup looks: a copy of a certificate Secret, for a revocation of what was renewed since.

use cert_lib::model::bundle::Leaf;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use super::{IssuerKey, marks, names};

/// Where backups are, as upstream has them.
pub const NAMESPACE: &str = "kube-system";

/// The copy, for whom and by which issuer. It has no owner, and no labels and annotations but ours:
/// nobody may select it by mistake. Keystores stay out of it.
#[must_use]
pub fn render(tenant: &str, issuer: &IssuerKey, leaf: &Leaf, secret: &Secret) -> Secret {
    let labels = secret.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(marks::HASH)).cloned().unwrap_or_default();
    let true_ = || "true".to_owned();
    let mut annotations = secret.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| [marks::REQUESTED_AT, marks::REVOKED].contains(&name.as_str()));
    annotations.insert(marks::BACKUP_OF.to_owned(), tenant.to_owned());
    annotations.insert(marks::BACKUP_ISSUER.to_owned(), issuer.to_string());
    let mut data = secret.data.clone().unwrap_or_default();
    data.retain(|name, _| ["tls.crt", "tls.key", "ca.crt"].contains(&name.as_str()));
    Secret {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(name(&issuer.to_string(), &leaf.serial, &hash)),
            labels: Some(
                [
                    (marks::CERTIFICATE.to_owned(), true_()),
                    (marks::BACKUP.to_owned(), true_()),
                    (marks::SERIAL.to_owned(), label(&leaf.serial)),
                    (marks::HASH.to_owned(), hash),
                ]
                .into(),
            ),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        type_: secret.type_.clone(),
        data: Some(data),
        ..Secret::default()
    }
}

/// `cert-backup-<issuer>-<last 8 hex digits of the serial number>-<5 of the request's hash>`;
/// upstream has 5 random characters at the end.
fn name(issuer: &str, serial: &str, hash: &str) -> String {
    let issuer = issuer.rsplit('/').next().unwrap_or(issuer);
    let issuer: String = issuer.chars().take(200).collect();
    let tail = serial.get(serial.len().saturating_sub(8)..).unwrap_or(serial);
    let hash: String = hash.chars().take(5).collect();
    names::derived(&format!("cert-backup-{issuer}"), &format!("{tail}-{hash}"))
}

/// A number without leading zeros, as upstream writes it and looks for it. Serial numbers have at most
/// 20 octets (RFC 5280 section 4.1.2.2), labels 63 characters; a CA may not know.
#[must_use]
pub fn label(serial: &str) -> String {
    serial.trim_start_matches('0').chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_a_number_as_upstream_writes_it() {
        for (serial, text) in [("3bdc", "3bdc"), ("03bd", "3bd"), ("00bd", "bd"), ("01", "1")] {
            assert_eq!(label(serial), text);
        }
    }

    #[test]
    fn a_backup_is_named_after_issuer_serial_number_and_request() {
        assert_eq!(
            name("pebble", "3bdcf106e13edefd", "ca5b9ed0d4"),
            "cert-backup-pebble-e13edefd-ca5b9"
        );
        assert_eq!(name("target:ns/le", "1", "ab"), "cert-backup-le-1-ab");
    }
}
