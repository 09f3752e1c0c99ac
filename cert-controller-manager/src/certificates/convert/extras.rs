//! Fields that depend on the kind of issuer: CA and self-signed issuers support some that ACME
//! issuers refuse. The messages are upstream's.

use cert_lib::model::request::{Extras, Refusal, other_names};
use jiff::SignedDuration;

use crate::{
    api::{certificate::CertificateSpec, issuer::IssuerKind},
    config::{CertificateSettings, duration, go_duration},
    issuers::query::common_name,
};

const CA_DURATION: SignedDuration = SignedDuration::from_hours(180 * 24);
const SELF_SIGNED_DURATION: SignedDuration = SignedDuration::from_hours(90 * 24);

/// `None` for ACME issuers. If the kind of the issuer is unknown, nothing is refused: the existing
/// certificate may still be valid.
pub(super) fn of(
    spec: &CertificateSpec,
    settings: &CertificateSettings,
    kind: Option<IssuerKind>,
) -> Result<Option<Extras>, Refusal> {
    let other_names = other_names(
        spec.email_addresses.as_deref().unwrap_or_default(),
        spec.ip_addresses.as_deref().unwrap_or_default(),
        spec.uris.as_deref().unwrap_or_default(),
    )?;
    let refuse = |why: &str| Err(Refusal::Other(why.to_owned()));
    let default = match kind {
        // DNS01 cannot validate other names; upstream leaves them out without an error.
        Some(IssuerKind::Acme) if spec.duration.is_some() => {
            return refuse("duration cannot be set for ACME certificate");
        }
        Some(IssuerKind::Acme) if spec.is_ca.is_some() => {
            return refuse("isCA cannot be set for ACME certificate");
        }
        Some(IssuerKind::Acme) => return Ok(None),
        Some(IssuerKind::SelfSigned) if spec.is_ca != Some(true) => {
            return refuse("self signed certificates must set 'spec.isCA: true'");
        }
        Some(IssuerKind::SelfSigned) if spec.csr.is_none() && common_name(spec).is_none() => {
            return refuse("common name must be set");
        }
        Some(IssuerKind::SelfSigned) => SELF_SIGNED_DURATION,
        Some(IssuerKind::Ca) | None => CA_DURATION,
    };
    let asked = spec.duration.as_deref().map(duration).transpose();
    let asked = asked.map_err(|why| Refusal::Other(format!("duration: {why}")))?;
    let duration = asked.unwrap_or(default);
    let shortest = settings.renewal_window * 2;
    if kind.is_some() && duration < shortest {
        let shortest = go_duration(shortest);
        return refuse(&format!("certificate duration must be at least {shortest}"));
    }
    Ok(Some(Extras {
        common_name: common_name(spec).map(str::to_owned),
        other_names,
        duration,
        is_ca: spec.is_ca == Some(true),
    }))
}
