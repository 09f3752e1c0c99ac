//! Certificates that are signed by a CA whose key this program holds.

mod description;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer, x509::X509Name,
};

use super::{
    Advance, Capabilities, CleanupError, IssueError, Issuer, KeyGenerator, Progress,
    private_ca::{self, CertificateTemplate, Signer},
};
use crate::{
    clock::Clock,
    model::{
        bundle::{Bundle, BundleError, is_self_issued},
        key::PrivateKey,
        request::{Request, Subject},
    },
    solve::Owner,
};

pub use description::Description;

/// A CA's certificate and key, checked.
pub struct Authority {
    /// The CA first, then those that signed it, without the root.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    facts: Facts,
    description: Description,
}

/// The relevant fields of the CA's certificate.
struct Facts {
    /// Its name in DER, byte by byte: verifiers compare it so.
    name: Vec<u8>,
    /// The parts of the name that its certificates inherit, in DER.
    inherited: Vec<u8>,
    key_id: Option<Vec<u8>>,
    /// Whether its key usage, where it has one, allows to sign certificates.
    may_sign: bool,
    /// Whether its certificates may be CAs.
    may_have_sub_cas: bool,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why there is no CA. The texts are upstream's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthorityError {
    /// Not PEM, no certificate, no key.
    #[error("extracting CA Keypair from secret failed: {0}")]
    Unreadable(String),
    /// Certificate and key do not match.
    #[error("private key does not match certificate")]
    OtherKey,
    /// It may not sign certificates.
    #[error("certificate is not a CA")]
    NotCa,
    /// It has expired.
    #[error("certificate is expired")]
    Expired,
}

impl Authority {
    /// Reads a CA: its certificate in PEM, followed by those that signed it, and its key in PEM.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn from_pem(chain: &[u8], key: &[u8], now: Timestamp) -> Result<Self, AuthorityError> {
        let unreadable = |why: &dyn std::fmt::Display| AuthorityError::Unreadable(why.to_string());
        let bundle = Bundle::from_pem(chain, Some(key)).map_err(|error| match error {
            BundleError::OtherKey => AuthorityError::OtherKey,
            other => unreadable(&other),
        })?;
        let first = bundle.chain.first().ok_or_else(|| unreadable(&"it has no certificate"))?;
        let (_, certificate) = X509Certificate::from_der(first)
            .map_err(|_| unreadable(&"its first certificate cannot be read"))?;
        let facts = Facts::of(&certificate, &bundle)?;
        let description = Description::of(&certificate, &bundle);
        if facts.not_after <= now {
            return Err(AuthorityError::Expired);
        }
        let key = bundle.key.ok_or_else(|| unreadable(&"it has no key"))?;
        let mut chain = bundle.chain;
        let mut position = 0;
        // The CA itself stays even where it is a root: clients that trust a root above it need it,
        // and upstream keeps it.
        chain.retain(|it| {
            position += 1;
            position == 1 || !is_self_issued(it)
        });
        Ok(Self { chain, key, facts, description })
    }

    /// The CA's certificate in words.
    #[must_use]
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// The CA's certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.chain.first().map(AsRef::as_ref).unwrap_or_default()
    }

    /// What is wrong with a CA that signs nevertheless, as upstream's does.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        (!self.facts.may_sign).then_some(
            "the key usage of the CA certificate lacks keyCertSign: strict verifiers refuse what it \
             signs; replace it by one with that usage",
        )
    }

    /// When the CA's certificate expires.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.facts.not_after
    }
}

/// Prints nothing of the key.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("not_after", &self.facts.not_after)
            .finish_non_exhaustive()
    }
}

impl Facts {
    fn of(certificate: &X509Certificate<'_>, bundle: &Bundle) -> Result<Self, AuthorityError> {
        let constraints = certificate.basic_constraints().ok().flatten();
        let constraints = constraints.map(|it| it.value).filter(|it| it.ca);
        let constraints = constraints.ok_or(AuthorityError::NotCa)?;
        let usage = certificate.key_usage().ok().flatten();
        let key_id = certificate.extensions().iter().find_map(|it| match it.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Self {
            name: certificate.subject().as_raw().to_vec(),
            inherited: inherited(certificate.subject()),
            key_id,
            may_sign: usage.is_none_or(|usage| usage.value.key_cert_sign()),
            may_have_sub_cas: constraints.path_len_constraint != Some(0),
            not_before: bundle.leaf.not_before,
            not_after: bundle.leaf.not_after,
        })
    }
}

/// Country, organization, units, locality, province, street and postal code: what upstream copies
/// into the subjects of a CA's certificates.
fn inherited(name: &X509Name<'_>) -> Vec<u8> {
    const INHERITED: [u8; 7] = [6, 7, 8, 9, 10, 11, 17];
    let is_inherited = |oid: &[u8]| matches!(oid, [0x55, 0x04, last] if INHERITED.contains(last));
    let attributes = name.iter_attributes().filter(|it| is_inherited(it.attr_type().as_bytes()));
    attributes
        .flat_map(|it| private_ca::attribute(it.attr_type().as_bytes(), it.attr_value()))
        .collect()
}

/// Issues without an order.
pub struct CaIssuer {
    authority: Authority,
    clock: Arc<dyn Clock>,
    keys: Arc<dyn KeyGenerator>,
}

impl CaIssuer {
    /// The capabilities of all CA issuers.
    pub const CAPABILITIES: Capabilities = Capabilities {
        proves_control: false,
        limits_orders: false,
        renewal_info: false,
        revokes: false,
        honors_extras: true,
        self_signs: false,
    };

    /// Signs as `authority`, and generates keys with `keys`.
    #[must_use]
    pub fn new(authority: Authority, clock: Arc<dyn Clock>, keys: Arc<dyn KeyGenerator>) -> Self {
        Self { authority, clock, keys }
    }

    /// The validity, which must not exceed that of the CA.
    fn validity(&self, request: &Request) -> Result<(Timestamp, Timestamp), IssueError> {
        let extras = private_ca::extras(request)?;
        let ca = &self.authority.facts;
        let now = self.clock.now();
        if ca.not_after <= now || ca.not_before > now {
            let (from, to) = (ca.not_before, ca.not_after);
            let message = format!("the CA's certificate is valid from {from} to {to}");
            return Err(IssueError::InvalidIssuer(message));
        }
        let end = private_ca::end(now, extras);
        if end > ca.not_after {
            // Without the current time: the same error has the same text each time.
            let message = format!(
                "certificate lifetime ({} hours) is longer than the lifetime of the CA certificate \
                 (until {}): set a shorter duration or renew the CA",
                end.duration_since(now).as_hours(),
                ca.not_after
            );
            return Err(IssueError::InvalidIssuer(message));
        }
        if extras.is_ca && !ca.may_have_sub_cas {
            let message = "the CA may not sign other CAs (pathLenConstraint 0)".to_owned();
            return Err(IssueError::InvalidIssuer(message));
        }
        Ok((now, end))
    }
}

#[async_trait]
impl Issuer for CaIssuer {
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    async fn advance(
        &self,
        request: &Request,
        _from: Option<Progress>,
    ) -> Result<Advance, IssueError> {
        let extras = private_ca::extras(request)?;
        let (not_before, not_after) = self.validity(request)?;
        let holder = private_ca::holder(request, self.keys.as_ref()).await?;
        let facts = &self.authority.facts;
        let subject = match &request.subject {
            Subject::Csr(csr) => csr.subject.clone(),
            Subject::Names { .. } => {
                private_ca::subject(&facts.inherited, extras.common_name.as_deref())
            }
        };
        let template = CertificateTemplate {
            subject,
            names: private_ca::names(request, extras),
            other_names: private_ca::other_names(request, extras),
            public_key: &holder.public_key,
            is_ca: extras.is_ca,
            not_before,
            not_after,
        };
        let signer =
            Signer { name: &facts.name, key_id: facts.key_id.as_deref(), key: &self.authority.key };
        private_ca::issue(&template, &signer, &self.authority.chain, holder.key)
            .map(Advance::Issued)
    }

    /// It places no orders.
    async fn abandon(&self, _owner: &Owner, _progress: &Progress) -> Result<(), CleanupError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
