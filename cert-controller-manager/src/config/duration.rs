//! Durations in the format of Go, as in flags and resources of upstream.

use std::time::Duration;

use jiff::SignedDuration;

/// Parses a duration in the format of Go: `720h`, `1h30m`, `10s`, `1.5h`.
///
/// # Errors
/// For invalid durations.
pub fn duration(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("{text:?} is no duration: write for example 90s, 2m or 720h");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = tail;
    }
    SignedDuration::try_from(total).map_err(|_| invalid())
}

/// Formats a duration like Go: `720h0m0s`, `2m0s`, `1.5s`.
#[must_use]
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = f64::from(duration.subsec_nanos()) / 1e9;
    #[expect(clippy::cast_precision_loss, reason = "below 60")]
    let seconds = seconds as f64 + fraction;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_format_of_go() {
        for (text, seconds, go) in [
            ("720h", 2_592_000, "720h0m0s"),
            ("1h30m", 5_400, "1h30m0s"),
            ("2m", 120, "2m0s"),
            ("10s", 10, "10s"),
            ("0", 0, "0s"),
            ("1.5h", 5_400, "1h30m0s"),
            ("1h.5h", 5_400, "1h30m0s"),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read, SignedDuration::from_secs(seconds), "{text}");
            assert_eq!(go_duration(read), go);
        }
        for text in ["", "h", "10", "-5m", "5 m", "1e400h", "nonsense"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
