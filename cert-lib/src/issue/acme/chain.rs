//! The chain that a CA returns (RFC 8555 section 7.4.2): read and put in order.

use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{
    issue::verify::Mismatch,
    model::bundle::{Bundle, Leaf},
};

/// Why a chain cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ChainError {
    /// The answer is no chain, but perhaps a page of a proxy: another attempt may return it.
    #[error("{0}")]
    None(String),
    /// More certificates than clients accept.
    #[error("its chain has {0} certificates, and clients give up before {MAX_CERTIFICATES}")]
    TooLong(usize),
    /// The certificate's own issuer is not in its chain.
    #[error("its chain does not have its issuer")]
    Broken,
    /// No certificate in it is the requested one.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// Reads a chain for `public_key` (SubjectPublicKeyInfo in DER). Its certificate comes first and
/// each issuer after the certificate that it issued (RFC 8555 section 9.1), also where the CA has
/// another order; other certificates are left out.
pub(super) fn read(pem: &[u8], public_key: &[u8]) -> Result<Bundle, ChainError> {
    let none = |why: &dyn ToString| ChainError::None(why.to_string());
    if pem.len() > MAX_PEM {
        return Err(none(&format_args!("it has more than {MAX_PEM} bytes")));
    }
    let bundle = Bundle::from_pem(pem, None).map_err(|error| none(&error))?;
    if bundle.chain.len() > MAX_CERTIFICATES {
        return Err(ChainError::TooLong(bundle.chain.len()));
    }
    let chain = arrange(&bundle.chain, public_key)?;
    let first = chain.first().ok_or(ChainError::Broken)?;
    let leaf = Leaf::from_der(first).map_err(|error| none(&error))?;
    Ok(Bundle { chain, leaf, ..bundle })
}

/// Whether a certificate of the chain has an issuer with this common name.
pub(super) fn has_issuer(chain: &[CertificateDer<'_>], name: &str) -> bool {
    chain.iter().any(|der| {
        X509Certificate::from_der(der).is_ok_and(|(_, it)| {
            it.issuer().iter_common_name().any(|found| found.as_str().is_ok_and(|it| it == name))
        })
    })
}

fn arrange(
    chain: &[CertificateDer<'static>],
    public_key: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ChainError> {
    let links: Vec<Link> = chain
        .iter()
        .map(|der| Link::of(der))
        .collect::<Option<_>>()
        .ok_or(ChainError::None("a certificate of its chain cannot be read".to_owned()))?;
    let mut at = links.iter().position(|link| link.key == public_key).ok_or(Mismatch::Key)?;
    let mut order = vec![at];
    // At most as many rounds as there are certificates, also where they form a circle.
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

/// What joins a certificate to others.
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
/// Enough for twenty large ones.
const MAX_PEM: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    /// A certificate of `subject` for a new key, signed by `issuer`.
    fn certificate(subject: &str, issuer: &str) -> (String, Vec<u8>) {
        let named = |name: &str| {
            let mut params = CertificateParams::new(vec!["a.example.org".to_owned()]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (key, signer) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let signed = named(subject).signed_by(&key, &Issuer::new(named(issuer), signer)).unwrap();
        let leaf = Leaf::from_der(signed.der()).unwrap();
        (signed.pem(), leaf.public_key)
    }

    fn common_names(bundle: &Bundle) -> Vec<String> {
        let name = |der: &CertificateDer<'_>| {
            let (_, it) = X509Certificate::from_der(der).unwrap();
            it.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
        };
        bundle.chain.iter().map(name).collect()
    }

    #[test]
    fn a_chain_is_put_in_order_and_what_belongs_to_another_is_left_out() {
        let (leaf, key) = certificate("leaf", "R1");
        let (r1, _) = certificate("R1", "X1");
        let (x1, _) = certificate("X1", "X1");
        let (other, _) = certificate("other", "X2");
        for (parts, want) in [
            (vec![&leaf, &r1, &x1], Ok(vec!["leaf", "R1", "X1"])),
            (vec![&leaf, &r1], Ok(vec!["leaf", "R1"])),
            (vec![&leaf], Ok(vec!["leaf"])),
            (vec![&x1, &r1, &leaf], Ok(vec!["leaf", "R1", "X1"])),
            (vec![&other, &leaf, &x1, &other, &r1], Ok(vec!["leaf", "R1", "X1"])),
            (vec![&leaf, &leaf, &r1], Ok(vec!["leaf", "R1"])),
            // The intermediate is missing: a client that knows X1 only would not trust it.
            (vec![&leaf, &x1], Err(ChainError::Broken)),
            (vec![&r1, &x1], Err(ChainError::Mismatch(Mismatch::Key))),
        ] {
            let pem: String = parts.into_iter().map(String::as_str).collect();
            let is = read(pem.as_bytes(), &key);
            let want = want.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(is.as_ref().map(common_names).map_err(Clone::clone), want);
            assert!(is.is_err() || is.is_ok_and(|bundle| bundle.leaf.public_key == key));
        }
    }

    #[test]
    fn issuers_that_refer_to_each_other_do_not_keep_us_forever() {
        let (leaf, key) = certificate("leaf", "A");
        let (a, _) = certificate("A", "B");
        let (b, _) = certificate("B", "A");
        let bundle = read(format!("{leaf}{b}{a}{b}{a}").as_bytes(), &key).unwrap();
        assert_eq!(common_names(&bundle), ["leaf", "A", "B", "A", "B"]);
    }

    #[test]
    fn a_chain_that_no_client_reads_is_refused() {
        let (leaf, key) = certificate("leaf", "A");
        let (a, _) = certificate("A", "A");
        let pem = format!("{leaf}{}", a.repeat(20));
        assert_eq!(read(pem.as_bytes(), &key).unwrap_err(), ChainError::TooLong(21));
        let error = read(a.repeat(1000).as_bytes(), &key).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 262144 bytes");
    }

    #[test]
    fn an_issuer_is_found_anywhere_in_the_chain_and_subjects_do_not_count() {
        let (leaf, key) = certificate("leaf", "R1");
        let (r1, _) = certificate("R1", "X1");
        let bundle = read(format!("{leaf}{r1}").as_bytes(), &key).unwrap();
        for (name, want) in [("R1", true), ("X1", true), ("leaf", false), ("r1", false)] {
            assert_eq!(has_issuer(&bundle.chain, name), want, "{name}");
        }
    }
}
