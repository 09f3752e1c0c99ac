//! Certificates that are signed by their own key.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Advance, Capabilities, CleanupError, IssueError, Issuer, KeyGenerator, Progress,
    private_ca::{self, CertificateTemplate, Signer},
};
use crate::{
    clock::Clock,
    model::{
        key::KeyType,
        request::{Request, Subject},
    },
    solve::Owner,
};

/// Issues without an order, each certificate with a key of its own.
pub struct SelfSignedIssuer {
    clock: Arc<dyn Clock>,
    keys: Arc<dyn KeyGenerator>,
}

impl SelfSignedIssuer {
    /// The capabilities of all self-signed issuers.
    pub const CAPABILITIES: Capabilities = Capabilities {
        proves_control: false,
        limits_orders: false,
        renewal_info: false,
        revokes: false,
        honors_extras: true,
        self_signs: true,
    };

    /// Generates its keys with `keys`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, keys: Arc<dyn KeyGenerator>) -> Self {
        Self { clock, keys }
    }
}

#[async_trait]
impl Issuer for SelfSignedIssuer {
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    async fn advance(
        &self,
        request: &Request,
        _from: Option<Progress>,
    ) -> Result<Advance, IssueError> {
        let extras = private_ca::extras(request)?;
        // The key of a signing request is not known here and cannot sign. So only its content and
        // the kind of its key are used, as upstream does.
        let (kind, subject) = match &request.subject {
            Subject::Csr(csr) => {
                let kind = KeyType::of_public_key(&csr.public_key).unwrap_or_default();
                (kind, csr.subject.clone())
            }
            Subject::Names { key, .. } => {
                (key.kind(), private_ca::subject(&[], extras.common_name.as_deref()))
            }
        };
        let again =
            request.key.as_ref().filter(|_| matches!(request.subject, Subject::Names { .. }));
        let key = match again {
            Some(key) => key.clone(),
            None => self.keys.generate(kind).await.map_err(|error| private_ca::broken(&error))?,
        };
        let now = self.clock.now();
        let template = CertificateTemplate {
            subject: subject.clone(),
            names: private_ca::names(request, extras),
            other_names: private_ca::other_names(request, extras),
            public_key: key.public_key(),
            is_ca: extras.is_ca,
            not_before: now,
            not_after: private_ca::end(now, extras),
        };
        let signer = Signer { name: &subject, key_id: None, key: &key };
        let bundle = private_ca::issue(&template, &signer, &[], Some(key.clone()))?;
        Ok(Advance::Issued(bundle))
    }

    /// It places no orders.
    async fn abandon(&self, _owner: &Owner, _progress: &Progress) -> Result<(), CleanupError> {
        Ok(())
    }
}
