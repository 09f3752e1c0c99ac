//! The chain that a CA hands out (RFC 8555 section 7.4.2): read, put in order, chosen.

use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{
    issue::x509::Mismatch,
    model::bundle::{Bundle, Leaf},
};

/// Why a chain cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ChainError {
    /// Something else came, a page of a proxy perhaps: another try may bring it.
    #[error("{0}")]
    None(String),
    /// Too much of it for the clients that are to read it.
    #[error("its chain has {0} certificates, and clients give up before {MAX_CERTIFICATES}")]
    TooLong(usize),
    /// The certificate's own issuer is not in its chain.
    #[error("its chain does not have its issuer")]
    Broken,
    /// No certificate in it is what was asked for.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// Reads a chain for `public_key` (SubjectPublicKeyInfo in DER). Its certificate comes first and
/// each issuer after whom it issued, as RFC 8555 section 9.1 has it, even where the CA mixed them up;
/// what belongs to neither is left out.
pub(super) fn read(pem: &[u8], public_key: &[u8]) -> Result<Bundle, ChainError> {
    let none = |why: &dyn ToString| ChainError::None(why.to_string());
    if pem.len() > MAX_PEM {
        return Err(none(&format_args!("it has more than {MAX_PEM} bytes")));
    }
    let bundle = Bundle::from_pem(pem, None).map_err(|error| none(&error))?;
    if bundle.chain.len() > MAX_CERTIFICATES {
        return Err(ChainError::TooLong(bundle.chain.len()));
    }
    let chain = arrange(bundle.chain, public_key)?;
    let first = chain.first().ok_or(ChainError::Broken)?;
    let leaf = Leaf::from_der(first).map_err(|error| none(&error))?;
    Ok(Bundle { chain, leaf, ..bundle })
}

/// Whether a certificate of the chain was issued by somebody of this common name.
pub(super) fn has_issuer(chain: &[CertificateDer<'_>], name: &str) -> bool {
    chain.iter().any(|der| {
        X509Certificate::from_der(der).is_ok_and(|(_, it)| {
            it.issuer().iter_common_name().any(|found| found.as_str().is_ok_and(|it| it == name))
        })
    })
}

fn arrange(
    chain: Vec<CertificateDer<'static>>,
    public_key: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ChainError> {
    let links: Vec<Link> = chain
        .iter()
        .map(|der| Link::of(der))
        .collect::<Option<_>>()
        .ok_or(ChainError::None("a certificate of its chain cannot be read".to_owned()))?;
    let mut at = links.iter().position(|link| link.key == public_key).ok_or(Mismatch::Key)?;
    let mut order = vec![at];
    // At most as many rounds as there are certificates, however they refer to each other.
    while let Some(next) = (0..links.len())
        .find(|next| !order.contains(next) && links[*next].subject == links[at].issuer)
        .filter(|_| links[at].subject != links[at].issuer)
    {
        order.push(next);
        at = next;
    }
    if order.len() == 1 && links.iter().any(|link| link.key != public_key) {
        return Err(ChainError::Broken);
    }
    Ok(order.into_iter().map(|index| chain[index].clone()).collect())
}

/// How a certificate is joined to others.
struct Link {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key: Vec<u8>,
}

impl Link {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, it) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            subject: it.subject().as_raw().to_vec(),
            issuer: it.issuer().as_raw().to_vec(),
            key: it.public_key().raw.to_vec(),
        })
    }
}

/// Public chains have four at most; verifiers stop at about ten.
const MAX_CERTIFICATES: usize = 20;
/// Twenty of the largest that there are.
const MAX_PEM: usize = 256 * 1024;
