//! What there is: Certificates, their Secrets, the backups. Decides nothing but whose a backup is.

use std::collections::BTreeSet;

use cert_lib::model::bundle::{Bundle, Leaf};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    found::{Backup, Found, Held, Holder, Lists, Subject},
    index::RevocationKey,
    reconcile::Controller,
};
use crate::{
    api::{
        Certificate, CertificateRevocation, IssuerKey, ObjectKey, backup,
        certificate::State,
        is_served, marks,
        revocation::CertificateName,
        secret::{assumed_request, entry, is_revoked, noted_request},
    },
    issuers::asked::asked,
};

impl Controller {
    /// Looks at everything that a revocation depends on.
    ///
    /// # Errors
    /// When something could not be read.
    pub(super) async fn look(
        &self,
        key: &RevocationKey,
        revocation: &CertificateRevocation,
        begun: Option<&Lists>,
    ) -> kube::Result<Found> {
        let name = &revocation.spec.certificate_ref;
        let certificates = self.certificates(key, &name.namespace);
        let Some(lists) = begun else {
            return self.look_first(key, &certificates, name).await;
        };
        let mut found = Found::default();
        for name in &lists.processing {
            if let Some(certificate) = self.listed(key, name).await? {
                found.holders.push(self.holder(&certificate).await?);
            }
        }
        let owners = self.owners(key, name, &found.holders);
        for listed in &lists.secrets {
            let secret = ObjectKey::new(backup::NAMESPACE, &listed.name);
            let Some(secret) = self.secrets(&secret.namespace).get_opt(&secret.name).await? else {
                continue;
            };
            found.backups.extend(owners.backup(&secret));
        }
        Ok(found)
    }

    async fn look_first(
        &self,
        key: &RevocationKey,
        certificates: &Api<Certificate>,
        name: &CertificateName,
    ) -> kube::Result<Found> {
        let Some(certificate) = certificates.get_opt(&name.name).await? else {
            return Ok(Found::default());
        };
        let subject = Subject {
            hash: hash(&certificate).map(str::to_owned),
            revoked: certificate
                .status
                .as_ref()
                .is_some_and(|status| status.state == State::Revoked.word()),
            issuer: self.issuers.choose(&asked(&certificate, &self.settings)),
        };
        let mut found = Found { subject: Some(subject), ..Found::default() };
        let Some(hash) = hash(&certificate) else { return Ok(found) };
        let same = ListParams::default().labels(&format!("{}={hash}", marks::HASH));
        let scope = match self.settings.cross_namespace_secrets {
            true => self.all_certificates(key),
            false => certificates.clone(),
        };
        for certificate in scope.list(&same).await?.items {
            if is_served(&certificate, &self.settings.classes) {
                found.holders.push(self.holder(&certificate).await?);
            }
        }
        let owners = self.owners(key, name, &found.holders);
        let same = format!("{}=true,{}={hash}", marks::BACKUP, marks::HASH);
        let backups = self.secrets(backup::NAMESPACE);
        let backups = backups.list(&ListParams::default().labels(&same)).await?;
        found.backups.extend(backups.items.iter().filter_map(|secret| owners.backup(secret)));
        Ok(found)
    }

    /// A Certificate that the status names. What it names elsewhere is not ours to look at.
    async fn listed(
        &self,
        key: &RevocationKey,
        name: &CertificateName,
    ) -> kube::Result<Option<Certificate>> {
        let is_near = name.namespace == key.object.namespace;
        if !is_near && !self.settings.cross_namespace_secrets {
            return Ok(None);
        }
        let found = self.certificates(key, &name.namespace).get_opt(&name.name).await?;
        let is_ours = |it: &Certificate| {
            it.metadata.deletion_timestamp.is_none() && is_served(it, &self.settings.classes)
        };
        Ok(found.filter(is_ours))
    }

    async fn holder(&self, certificate: &Certificate) -> kube::Result<Holder> {
        let object = ObjectKey::of(certificate);
        let key = certificate.secret_key();
        let secret = self.secrets(&key.namespace).get_opt(&key.name).await?;
        let is_near = key.namespace == object.namespace;
        let held = secret.as_ref().and_then(|secret| {
            let (leaf, requested_at) = read(secret)?;
            // Whoever holds the key of a certificate may revoke it (RFC 8555 section 7.6), and nobody
            // else: anybody can put somebody's certificate and any label into a Secret. Where the key is
            // elsewhere only the note on the backup tells.
            let is_same = secret.labels().get(marks::HASH).map(String::as_str) == hash(certificate);
            Some(Held {
                serial: backup::label(&leaf.serial),
                requested_at,
                revoked: is_revoked(secret),
                is_own: is_same
                    && has_key(secret)
                    && (is_near || self.settings.cross_namespace_secrets),
            })
        });
        Ok(Holder {
            name: CertificateName { name: object.name, namespace: object.namespace },
            renewed_after: certificate
                .spec
                .ensure_renewed_after
                .as_deref()
                .and_then(|text| text.parse().ok()),
            new_key_after: certificate.new_key_after(),
            held,
        })
    }

    fn owners(&self, key: &RevocationKey, name: &CertificateName, holders: &[Holder]) -> Owners {
        let held = holders.iter().filter_map(|holder| holder.held.as_ref());
        Owners {
            anywhere: self.settings.cross_namespace_secrets,
            tenants: self.places.tenants(key.home, &name.namespace),
            serials: held.filter(|held| held.is_own).map(|held| held.serial.clone()).collect(),
        }
    }

    pub(super) fn certificates(&self, key: &RevocationKey, namespace: &str) -> Api<Certificate> {
        Api::namespaced(self.homes.at(key.home).client.clone(), namespace)
    }

    fn all_certificates(&self, key: &RevocationKey) -> Api<Certificate> {
        Api::all(self.homes.at(key.home).client.clone())
    }

    pub(super) fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.target.0.clone(), namespace)
    }
}

/// Who asks, as far as it decides whose a backup is; see the [module](super).
struct Owners {
    anywhere: bool,
    tenants: Vec<String>,
    /// What their own Secrets hold.
    serials: BTreeSet<String>,
}

impl Owners {
    /// The backup in `secret`; `None` where there is none, or it belongs to somebody else.
    fn backup(&self, secret: &Secret) -> Option<Backup> {
        secret.labels().get(marks::BACKUP).filter(|text| *text == "true")?;
        let (leaf, requested_at) = read(secret)?;
        let serial = backup::label(&leaf.serial);
        let annotations = secret.annotations();
        let noted = annotations.get(marks::BACKUP_OF).map_or("", String::as_str);
        let is_noted = noted.split(',').any(|one| self.tenants.iter().any(|own| own == one.trim()));
        if !is_noted && !self.anywhere && !self.serials.contains(&serial) {
            return None;
        }
        Some(Backup {
            secret: ObjectKey::of(secret),
            text: leaf.serial_with_colons(),
            requested_at,
            not_after: leaf.not_after,
            revoked: is_revoked(secret),
            is_marked: is_noted && annotations.contains_key(marks::BACKUP_ISSUER),
            issuer: annotations.get(marks::BACKUP_ISSUER).map(|text| IssuerKey::from_text(text)),
            serial,
        })
    }
}

/// The leaf in a Secret, and when it was requested.
pub(super) fn read(secret: &Secret) -> Option<(Leaf, Timestamp)> {
    let leaf = bundle(secret)?.leaf;
    let requested_at = noted_request(secret).unwrap_or_else(|| assumed_request(&leaf));
    Some((leaf, requested_at))
}

/// Whether a Secret holds the private key of its certificate.
pub(super) fn has_key(secret: &Secret) -> bool {
    let key = std::str::from_utf8(entry(secret, "tls.key")).unwrap_or_default();
    !key.is_empty() && Bundle::from_pem(entry(secret, "tls.crt"), Some(key)).is_ok()
}

/// The chain in a Secret.
pub(super) fn bundle(secret: &Secret) -> Option<Bundle> {
    Bundle::from_pem(entry(secret, "tls.crt"), None).ok()
}

fn hash(certificate: &Certificate) -> Option<&str> {
    certificate.labels().get(marks::HASH).map(String::as_str).filter(|hash| !hash.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;
    use kube::api::ObjectMeta;

    use super::*;

    /// A backup with the serial number 0a bc.
    fn secret(annotations: &[(&str, &str)]) -> Secret {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
        params.not_before = rcgen::date_time_ymd(2026, 11, 22);
        let pem = params.self_signed(&key).unwrap().pem();
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Secret {
            metadata: ObjectMeta {
                labels: Some([(marks::BACKUP.to_owned(), "true".to_owned())].into()),
                annotations: Some(annotations.iter().map(text).collect()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([("tls.crt".to_owned(), ByteString(pem.into_bytes()))])),
            ..Secret::default()
        }
    }

    #[test]
    fn whoever_has_the_certificate_alone_has_no_right_to_revoke_it() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (text, owns) in [
            (key.serialize_pem(), true),
            (other, false),
            (String::new(), false),
            ("?".into(), false),
        ] {
            let entry = |name: &str, text: &str| (name.to_owned(), ByteString(text.into()));
            let data = [entry("tls.crt", &chain), entry("tls.key", &text)];
            let secret = Secret { data: Some(data.into()), ..Secret::default() };
            assert_eq!(has_key(&secret), owns, "{text}");
        }
    }

    fn owners(anywhere: bool, serials: &[&str]) -> Owners {
        Owners {
            anywhere,
            tenants: vec!["now:ns".to_owned(), "before:ns".to_owned()],
            serials: serials.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn a_backup_is_of_whom_it_names_or_of_whoever_has_its_certificate() {
        let of = |text| [(marks::BACKUP_OF, text)];
        for (annotations, anywhere, serials, is_ours) in [
            (&of("now:ns")[..], false, &[][..], true),
            (&of("x:ns, before:ns"), false, &[], true),
            (&of("now:other"), false, &[], false),
            (&of("now:other"), false, &["abc"], true),
            (&of("now:other"), true, &[], true),
            (&[], false, &["abc"], true),
            (&[], false, &["abd"], false),
            (&[], true, &[], true),
        ] {
            let found = owners(anywhere, serials).backup(&secret(annotations));
            assert_eq!(found.is_some(), is_ours, "{annotations:?} {anywhere} {serials:?}");
        }
        let mut plain = secret(&of("now:ns"));
        plain.metadata.labels = None;
        assert_eq!(owners(true, &["abc"]).backup(&plain), None, "it is no backup");
    }

    #[test]
    fn a_backup_says_all_that_a_revocation_needs() {
        let whose = (marks::BACKUP_OF, "now:ns");
        let bare = owners(false, &[]).backup(&secret(&[whose])).unwrap();
        assert_eq!((bare.serial.as_str(), bare.text.as_str()), ("abc", "0a:bc"));
        assert_eq!(bare.requested_at, "2026-11-22T01:00:30Z".parse().unwrap());
        assert_eq!((bare.revoked, bare.is_marked), (false, false));
        let noted = [
            whose,
            (marks::BACKUP_ISSUER, "target:ns/le"),
            (marks::REQUESTED_AT, "2026-11-22T08:00:00Z"),
            (marks::REVOKED, "true"),
        ];
        let noted = owners(false, &[]).backup(&secret(&noted)).unwrap();
        assert_eq!(noted.issuer, Some(IssuerKey::Target(ObjectKey::new("ns", "le"))));
        assert_eq!(noted.requested_at, "2026-11-22T08:00:00Z".parse().unwrap());
        assert_eq!((noted.revoked, noted.is_marked), (true, true));
    }
}
