//! A Certificate's specification becomes what the engine works on. Pure; parsed once per pass.

mod extras;
mod renewal;

use std::{collections::BTreeSet, net::IpAddr};

use cert_lib::{
    model::{
        key::KeyType,
        name::DnsName,
        request::{
            AcmeWishes, Csr, Fingerprint, Ingredients, KeyChoice, Refusal, Request, Subject, names,
        },
    },
    plan::Want,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    api::{
        Certificate, CertificateKey, IssuerKey, ObjectKey,
        certificate::{CertificateSpec, KeyAlgorithm, PrivateKeySpec},
        issuer::IssuerKind,
        marks,
    },
    certificates::{
        consent::{Consent, Consents},
        syntax,
    },
    config::{CertificateSettings, duration},
    issuers::choice::{Asked, Chosen},
};

/// Shortest `renewBefore`, as upstream has it.
const MIN_RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// What the Certificate asks for.
#[must_use]
pub fn want(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    issuer: &Chosen,
    consents: &Consents,
) -> Want {
    let spec = &certificate.spec;
    let renewal = renew_before(spec).and_then(|window| Ok((window, renewed_after(spec)?)));
    let (renew_before, renewed_after) = renewal.clone().unwrap_or_default();
    let (percentage, windows) = (renewal::percentage(spec), renewal::windows(spec));
    let (renew_before_percentage, renewal_windows) =
        (percentage.clone().unwrap_or_default(), windows.clone().unwrap_or_default());
    Want {
        request: renewal
            .and_then(|_| percentage.and(windows))
            .and_then(|_| check_secret(key, certificate, settings, consents))
            .and_then(|()| request(key, certificate, settings, issuer)),
        renew: spec.renew == Some(true),
        renewed_after,
        renew_before,
        renew_before_percentage,
        renewal_windows,
    }
}

/// The Secret that the Certificate's result goes to. Where the Certificate names none, the name is
/// made from its own and its uid: the same after a crash, and nobody else's.
#[must_use]
pub fn secret_key(certificate: &Certificate) -> ObjectKey {
    let spec = &certificate.spec;
    let own = certificate.namespace().unwrap_or_default();
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let reference = spec.secret_ref.as_ref();
    let name = reference
        .and_then(|reference| some(&reference.name))
        .or_else(|| some(&spec.secret_name))
        .unwrap_or_else(|| {
            let uid: String = certificate.uid().unwrap_or_default().chars().take(8).collect();
            let head: String = certificate.name_any().chars().take(240).collect();
            format!("{head}-{uid}")
        });
    let namespace = reference.and_then(|reference| some(&reference.namespace)).unwrap_or(own);
    ObjectKey { namespace, name }
}

/// What the Certificate says about its issuer.
#[must_use]
pub fn asked(certificate: &Certificate, settings: &CertificateSettings) -> Asked {
    let spec = &certificate.spec;
    let reference = spec.issuer_ref.as_ref().filter(|it| !it.name.is_empty());
    let names = match (common_name(spec), spec.dns_names.as_deref(), &spec.csr) {
        (None, None | Some([]), Some(csr)) => Csr::for_own_issuer(&csr.0)
            .map(|csr| csr.names.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        (common_name, dns_names, _) => {
            let dns_names = dns_names.unwrap_or_default().iter().map(String::as_str);
            common_name.into_iter().chain(dns_names).map(str::to_owned).collect()
        }
    };
    Asked {
        namespace: certificate.namespace().unwrap_or_default(),
        reference: reference.map(|it| (it.name.clone(), it.namespace.clone())),
        names,
        current: current(certificate, settings),
    }
}

/// The issuer that issued what the Certificate asks for now, whatever else has changed since: with
/// it, the request has the fingerprint that is noted on the Certificate.
fn current(certificate: &Certificate, settings: &CertificateSettings) -> Option<IssuerKey> {
    let used = certificate.status.as_ref()?.issuer_ref.as_ref()?;
    let key = if used.cluster.as_deref() == Some("target") {
        IssuerKey::Target(ObjectKey::new(&used.namespace, &used.name))
    } else if used.namespace == settings.issuer_namespace {
        IssuerKey::Default(used.name.clone())
    } else {
        return None;
    };
    let noted = certificate.labels().get(marks::HASH)?;
    (fingerprint(&certificate.spec, settings, &key).as_str() == noted).then_some(key)
}

fn common_name(spec: &CertificateSpec) -> Option<&str> {
    spec.common_name.as_deref().filter(|name| !name.is_empty())
}

fn fingerprint(
    spec: &CertificateSpec,
    settings: &CertificateSettings,
    issuer: &IssuerKey,
) -> Fingerprint {
    // Upstream leaves out the key that it would take anyway.
    let anyway = settings.default_key.unwrap_or(KeyType::Rsa2048);
    let key = spec.private_key.as_ref().and_then(|key| key_type(key, settings));
    Fingerprint::of(&Ingredients {
        common_name: common_name(spec),
        dns_names: spec.dns_names.as_deref().unwrap_or_default(),
        other_names: [&spec.email_addresses, &spec.ip_addresses, &spec.uris]
            .map(|names| names.as_deref().unwrap_or_default()),
        csr: spec.csr.as_ref().map(|csr| csr.0.as_slice()),
        issuer: &issuer.to_string(),
        key: key.filter(|key| *key != anyway),
    })
}

fn request(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    issuer: &Chosen,
) -> Result<Request, Refusal> {
    let spec = &certificate.spec;
    let common_name = common_name(spec);
    let dns_names = spec.dns_names.as_deref().unwrap_or_default();
    let acme = acme_wishes(spec, issuer.kind);
    let named = common_name.is_some() || !dns_names.is_empty() || !acme.addresses.is_empty();
    let csr = spec.csr.as_ref().map(|csr| csr.0.as_slice());
    let extras = extras::of(spec, settings, issuer.kind)?;
    let subject = match (named, csr) {
        (false, None) => return Err(Refusal::Empty),
        (true, Some(_)) => return Err(Refusal::NamesAndCsr),
        (false, Some(csr)) => Subject::Csr(match extras {
            Some(_) => Csr::for_own_issuer(csr)?,
            None => Csr::from_pem(csr)?,
        }),
        (true, None) => Subject::Names {
            dns_names: names(common_name, dns_names)?,
            common_name: match (common_name.map(str::parse::<DnsName>).transpose(), &extras) {
                (Err(_), Some(_)) => None,
                (parsed, _) => parsed?,
            },
            key: key_choice(spec, settings),
        },
    };
    let fingerprint = fingerprint(spec, settings, &issuer.key);
    Ok(Request { extras, acme, ..Request::new(key.owner(), fingerprint, subject) })
}

/// What only an ACME server can be asked for. Addresses are certified by some profiles only; without
/// one they are left out in silence, as upstream does.
fn acme_wishes(spec: &CertificateSpec, kind: Option<IssuerKind>) -> AcmeWishes {
    let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let profile = full(&spec.profile);
    let certifies = profile.is_some() && spec.csr.is_none() && kind == Some(IssuerKind::Acme);
    let texts = spec.ip_addresses.iter().flatten().filter(|_| certifies);
    // What is no address is refused with the other names.
    let addresses: BTreeSet<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    AcmeWishes {
        profile,
        preferred_chain: full(&spec.preferred_chain),
        follow_cname: spec.follow_cname == Some(true),
        addresses: addresses.into_iter().collect(),
    }
}

fn check_secret(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    consents: &Consents,
) -> Result<(), Refusal> {
    let spec = &certificate.spec;
    let reference = spec.secret_ref.as_ref();
    let by_name = spec.secret_name.as_deref().unwrap_or_default();
    let by_reference = reference.and_then(|it| it.name.as_deref()).unwrap_or_default();
    if !by_name.is_empty() && !by_reference.is_empty() && by_name != by_reference {
        return Err(Refusal::Other(format!(
            "conflicting names in secretRef.Name and secretName: {by_reference} != {by_name}"
        )));
    }
    let target = secret_key(certificate);
    if !syntax::is_subdomain(&target.name) || !syntax::is_subdomain(&target.namespace) {
        return Err(Refusal::Other(format!(
            "{:?} is no name of a Secret: use lower-case letters, digits, '-' and '.'",
            target.to_string()
        )));
    }
    if let Some((name, why)) = syntax::bad_label(spec.secret_labels.as_ref()) {
        return Err(Refusal::Other(format!("secretLabels: {name:?} {why}")));
    }
    if let Some((name, why)) = syntax::bad_annotation(spec.secret_annotations.as_ref()) {
        return Err(Refusal::Other(format!("secretAnnotations: {name:?} {why}")));
    }
    let own = key.object.namespace.as_str();
    if !settings.cross_namespace_secrets && consents.of(own, &target) != Consent::Given {
        return Err(Refusal::Other(format!(
            "the Secret {target} is in another namespace than the Certificate: its administrator may \
             allow that with the annotation {}={own} on Namespace {} of the target cluster, or the \
             manager's with --allow-cross-namespace-secrets",
            marks::ALLOW_SECRETS_FROM,
            target.namespace
        )));
    }
    Ok(())
}

fn renewed_after(spec: &CertificateSpec) -> Result<Option<Timestamp>, Refusal> {
    let time = spec.ensure_renewed_after.as_deref().map(str::parse).transpose();
    time.map_err(|_| {
        Refusal::Other("ensureRenewedAfter is no time between the years 0 and 9999".to_owned())
    })
}

fn renew_before(spec: &CertificateSpec) -> Result<Option<SignedDuration>, Refusal> {
    let Some(text) = &spec.renew_before else { return Ok(None) };
    let window = duration(text).map_err(|why| Refusal::Other(format!("renewBefore: {why}")))?;
    if window < MIN_RENEW_BEFORE {
        return Err(Refusal::Other(format!("renewBefore must be at least 5 minutes ({text})")));
    }
    Ok(Some(window))
}

fn key_choice(spec: &CertificateSpec, settings: &CertificateSettings) -> KeyChoice {
    let asked = spec.private_key.as_ref().and_then(|key| key_type(key, settings));
    asked.map_or(KeyChoice::Free(settings.default_key.unwrap_or_default()), KeyChoice::Asked)
}

fn key_type(spec: &PrivateKeySpec, settings: &CertificateSettings) -> Option<KeyType> {
    Some(match (spec.algorithm?, spec.size) {
        (KeyAlgorithm::Rsa, Some(2048)) => KeyType::Rsa2048,
        (KeyAlgorithm::Rsa, Some(3072)) => KeyType::Rsa3072,
        (KeyAlgorithm::Rsa, Some(4096)) => KeyType::Rsa4096,
        (KeyAlgorithm::Rsa, _) => settings.default_rsa,
        (KeyAlgorithm::Ecdsa, Some(256)) => KeyType::P256,
        (KeyAlgorithm::Ecdsa, Some(384)) => KeyType::P384,
        (KeyAlgorithm::Ecdsa, _) => settings.default_ecdsa,
    })
}

#[cfg(test)]
mod tests;
