//! Converts a Certificate's specification to the request and the renewal settings of the engine.
//! Pure; runs once per pass.

mod extras;
mod renewal;

use std::{collections::BTreeSet, net::IpAddr};

use cert_lib::{
    model::request::{
        Csr, KeyChoice, OrderOptions, Refusal, Request, Subject, names, own_common_name,
    },
    plan::Want,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    api::{Certificate, CertificateKey, certificate::CertificateSpec, time::whole_up, well_known},
    certificates::{
        secret_grant::{SecretGrant, SecretGrants},
        syntax,
    },
    config::{CertificateSettings, duration},
    issuers::{
        query::{common_name, fingerprint, key_type},
        selection::Selection,
    },
};

/// Minimum of `renewBefore`, as in upstream.
const MIN_RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// The desired state of a Certificate.
#[must_use]
pub fn want(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    issuer: &Selection,
    secret_grants: &SecretGrants,
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
            .and_then(|_| check_secret(key, certificate, settings, secret_grants))
            .and_then(|()| request(key, certificate, settings, issuer)),
        renew: spec.renew == Some(true),
        renewed_after,
        new_key_after: certificate.new_key_after(),
        renew_before,
        renew_before_percentage,
        renewal_windows,
    }
}

fn request(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    issuer: &Selection,
) -> Result<Request, Refusal> {
    let spec = &certificate.spec;
    let common_name = common_name(spec);
    let dns_names = spec.dns_names.as_deref().unwrap_or_default();
    let acme = order_options(spec, issuer);
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
            common_name: match (common_name, &extras) {
                (None, _) => None,
                (Some(text), Some(extras)) => own_common_name(text, extras)?,
                (Some(text), None) => Some(text.parse()?),
            },
            key: key_choice(spec, settings),
        },
    };
    let fingerprint = fingerprint(spec, settings, &issuer.key);
    let request = Request { extras, acme, ..Request::new(key.owner(), fingerprint, subject) };
    if issuer.capabilities().proves_control {
        request.check_challenges()?;
    }
    Ok(request)
}

/// Options of an order at a CA. Its IP addresses need a profile; without one they are left out, as in
/// upstream.
fn order_options(spec: &CertificateSpec, issuer: &Selection) -> OrderOptions {
    let non_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let profile = non_empty(&spec.profile);
    let certifies = profile.is_some() && spec.csr.is_none() && issuer.capabilities().proves_control;
    let texts = spec.ip_addresses.iter().flatten().filter(|_| certifies);
    // Invalid addresses are refused together with the other names.
    let addresses: BTreeSet<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    OrderOptions {
        profile,
        preferred_chain: non_empty(&spec.preferred_chain),
        follow_cname: spec.follow_cname == Some(true),
        addresses: addresses.into_iter().collect(),
    }
}

fn check_secret(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    secret_grants: &SecretGrants,
) -> Result<(), Refusal> {
    let spec = &certificate.spec;
    let reference = spec.secret_ref.as_ref();
    let by_name = spec.secret_name.as_deref().unwrap_or_default();
    let by_reference = reference.and_then(|it| it.name.as_deref()).unwrap_or_default();
    // After the first issuance, secretRef is our own write and may belong to an earlier secretName.
    let is_new = !certificate.labels().contains_key(well_known::HASH);
    if is_new && !by_name.is_empty() && !by_reference.is_empty() && by_name != by_reference {
        return Err(Refusal::Other(format!(
            "conflicting names in secretRef.Name and secretName: {by_reference} != {by_name}"
        )));
    }
    let target = certificate.secret_key();
    if !syntax::is_subdomain(&target.name) || !syntax::is_subdomain(&target.namespace) {
        return Err(Refusal::Other(format!(
            "{:?} is not a valid Secret name: use lower-case letters, digits, '-' and '.'",
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
    if !settings.cross_namespace_secrets && secret_grants.of(own, &target) != SecretGrant::Given {
        return Err(Refusal::Other(format!(
            "Secret {target} is in another namespace than the Certificate: set the annotation \
             {}={own} on Namespace {} of the target cluster, or run the manager with \
             --allow-cross-namespace-secrets",
            well_known::ALLOW_SECRETS_FROM,
            target.namespace
        )));
    }
    Ok(())
}

fn renewed_after(spec: &CertificateSpec) -> Result<Option<Timestamp>, Refusal> {
    let time = spec.ensure_renewed_after.as_deref().map(str::parse).transpose();
    let time = time.map_err(|_| {
        Refusal::Other("ensureRenewedAfter is not a time between the years 0 and 9999".to_owned())
    })?;
    // Request times are stored with a resolution of one second.
    Ok(time.map(whole_up))
}

fn renew_before(spec: &CertificateSpec) -> Result<Option<SignedDuration>, Refusal> {
    let Some(text) = &spec.renew_before else { return Ok(None) };
    let is_negative = |it: &str| it.trim().strip_prefix('-').is_some_and(|it| duration(it).is_ok());
    match duration(text) {
        Ok(window) if window >= MIN_RENEW_BEFORE => Ok(Some(window)),
        Err(why) if !is_negative(text) => Err(Refusal::Other(format!("renewBefore: {why}"))),
        Ok(_) | Err(_) => {
            Err(Refusal::Other(format!("renewBefore must be at least 5 minutes ({text})")))
        }
    }
}

fn key_choice(spec: &CertificateSpec, settings: &CertificateSettings) -> KeyChoice {
    let requested = spec.private_key.as_ref().and_then(|key| key_type(key, settings));
    requested.map_or(KeyChoice::Free(settings.default_key.unwrap_or_default()), KeyChoice::Asked)
}

#[cfg(test)]
mod tests;
