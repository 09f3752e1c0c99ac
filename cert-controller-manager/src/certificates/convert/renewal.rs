//! Renewal settings of a Certificate other than `renewBefore`.

use cert_lib::{model::request::Refusal, plan::renewal_window};

use crate::{
    api::certificate::{CertificateSpec, RenewalWindow},
    config::duration,
};

/// `spec.renewBeforePercentage`
pub(super) fn percentage(spec: &CertificateSpec) -> Result<Option<u8>, Refusal> {
    let Some(number) = spec.renew_before_percentage else { return Ok(None) };
    match u8::try_from(number) {
        Ok(percentage @ 1..=99) => Ok(Some(percentage)),
        Ok(_) | Err(_) => {
            let why = format!("renewBeforePercentage must be between 1 and 99 ({number})");
            Err(Refusal::Other(why))
        }
    }
}

/// `spec.renewalWindows`
pub(super) fn windows(
    spec: &CertificateSpec,
) -> Result<Vec<renewal_window::RenewalWindow>, Refusal> {
    let windows = spec.renewal_windows.as_deref().unwrap_or_default();
    if windows.len() > MAX_WINDOWS {
        return Err(Refusal::Other(format!("renewalWindows has more than {MAX_WINDOWS} entries")));
    }
    let each = windows.iter().enumerate().map(|(number, window)| {
        let refused = |why| Refusal::Other(format!("renewalWindows[{number}].{why}"));
        parse(window).map_err(refused)
    });
    each.collect()
}

fn parse(window: &RenewalWindow) -> Result<renewal_window::RenewalWindow, String> {
    let length = duration(&window.duration).map_err(|why| format!("duration: {why}"))?;
    let days = window.days.as_deref().unwrap_or_default();
    let zone = window.time_zone.as_deref().filter(|zone| !zone.is_empty());
    renewal_window::RenewalWindow::new(days, &window.start, length, zone)
}

/// Bounds the work of each pass.
const MAX_WINDOWS: usize = 50;
