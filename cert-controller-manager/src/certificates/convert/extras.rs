//! Fields that depend on the issuer: some issuers honor extras, and the others refuse them. The messages are upstream's.

use cert_lib::{
    issue::Capabilities,
    model::request::{Extras, Refusal, other_names},
};
use jiff::SignedDuration;

use crate::{
    api::{certificate::CertificateSpec, issuer::IssuerKind},
    config::{CertificateSettings, duration, go_duration},
    issuers::query::common_name,
};

/// Without a known issuer, nothing is issued.
const UNKNOWN_DURATION: SignedDuration = SignedDuration::from_hours(180 * 24);

/// `None` for issuers that do not honor extras. If the kind of the issuer is unknown, nothing is refused: the existing
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
    if let Some(kind) = kind
        && !honors(kind, spec)?
    {
        return Ok(None);
    }
    let default = kind.map_or(UNKNOWN_DURATION, IssuerKind::default_duration);
    let asked = spec.duration.as_deref().map(duration).transpose();
    let asked = asked.map_err(|why| Refusal::Other(format!("duration: {why}")))?;
    let duration = asked.unwrap_or(default);
    let shortest = settings.renewal_window * 2;
    if kind.is_some() && duration < shortest {
        let shortest = go_duration(shortest);
        let why = format!("certificate duration must be at least {shortest}");
        return Err(Refusal::Other(why));
    }
    Ok(Some(Extras {
        common_name: common_name(spec).map(str::to_owned),
        other_names,
        duration,
        is_ca: spec.is_ca == Some(true),
    }))
}

/// Whether an issuer of this kind honors extras. It refuses a specification that it cannot fulfill.
fn honors(kind: IssuerKind, spec: &CertificateSpec) -> Result<bool, Refusal> {
    let refuse = |why: String| Err(Refusal::Other(why));
    let Capabilities { honors_extras, self_signs, .. } = kind.capabilities();
    let word = kind.word().to_uppercase();
    match honors_extras {
        false if spec.duration.is_some() => {
            refuse(format!("duration cannot be set for {word} certificate"))
        }
        false if spec.is_ca.is_some() => {
            refuse(format!("isCA cannot be set for {word} certificate"))
        }
        // No proof covers other names; upstream leaves them out without an error.
        false => Ok(false),
        true if self_signs && spec.is_ca != Some(true) => {
            refuse("self signed certificates must set 'spec.isCA: true'".to_owned())
        }
        true if self_signs && spec.csr.is_none() && common_name(spec).is_none() => {
            refuse("common name must be set".to_owned())
        }
        true => Ok(true),
    }
}
