//! Times in our objects: RFC 3339 in whole seconds, as in upstream.

use jiff::Timestamp;

/// Formats a time, rounded down.
#[must_use]
pub fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Formats a time, rounded up. A triggered renewal must be later than all requests before it, even
/// within the same second.
#[must_use]
pub fn seconds_up(time: Timestamp) -> String {
    whole_up(time).to_string()
}

/// The first whole second at or after `time`.
#[must_use]
pub fn whole_up(time: Timestamp) -> Timestamp {
    let whole = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(whole).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds() {
        for (time, down, up) in [
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
            ("2026-11-22T10:00:00.001Z", "2026-11-22T10:00:00Z", "2026-11-22T10:00:01Z"),
            ("2026-11-22T10:00:59.999Z", "2026-11-22T10:00:59Z", "2026-11-22T10:01:00Z"),
        ] {
            let time = time.parse().unwrap();
            assert_eq!((seconds(time), seconds_up(time)), (down.to_owned(), up.to_owned()));
        }
    }
}
