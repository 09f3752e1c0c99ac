//! Weekly windows in which certificates may be renewed.

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Time, Weekday},
    tz::TimeZone,
};

use super::spread::part;

/// A window that recurs each week, on some days.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenewalWindow {
    days: Vec<Weekday>,
    start: Time,
    length: SignedDuration,
    zone: TimeZone,
}

/// One occurrence of a window: start and length.
type Interval = (Timestamp, SignedDuration);

const DAY: SignedDuration = SignedDuration::from_hours(24);
const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

impl RenewalWindow {
    /// On `days`, or each day if empty, from `start` (`22:00`) in `zone` (UTC) on.
    ///
    /// # Errors
    /// What is wrong, beginning with the name of the field.
    pub fn new(
        days: &[String],
        start: &str,
        length: SignedDuration,
        zone: Option<&str>,
    ) -> Result<Self, String> {
        if length <= SignedDuration::ZERO || length > DAY {
            return Err("duration: must be longer than nothing and a day at most".to_owned());
        }
        Ok(Self {
            days: if days.is_empty() {
                DAYS.map(|(_, day)| day).to_vec()
            } else {
                days.iter().map(|text| day(text)).collect::<Result<_, _>>()?
            },
            start: time(start)?,
            length,
            zone: zone_of(zone.unwrap_or("UTC"))?,
        })
    }

    /// The occurrence that is open at `time`, or the next one. There is always one within eight
    /// days, also at clock changes: a start in the skipped hour is moved by the same amount.
    fn at(&self, time: Timestamp) -> Option<Interval> {
        let today = time.to_zoned(self.zone.clone()).date();
        (-2..=8)
            .filter_map(|ahead: i32| today.checked_add(ahead.days()).ok())
            .filter(|date| self.days.contains(&date.weekday()))
            .filter_map(|date| {
                self.zone.to_ambiguous_zoned(date.to_datetime(self.start)).compatible().ok()
            })
            .map(|start| (start.timestamp(), self.length))
            .find(|(start, length)| start.saturating_add(*length).is_ok_and(|end| end > time))
    }
}

/// When a renewal that is due at `due` takes place, seen from `now`. Renewals that wait for the
/// same occurrence are spread over its first half, by hash.
///
/// A missed renewal takes place in the open occurrence or in the next one. So the instant does not
/// move with `now`, but only when an occurrence ends, and messages about it stay the same.
/// each time.
pub(super) fn next(
    weekly: &[RenewalWindow],
    due: Timestamp,
    now: Timestamp,
    hash: u32,
) -> Timestamp {
    let at = |time: Timestamp| weekly.iter().filter_map(|weekly| weekly.at(time)).min();
    let place_in =
        |(start, length): Interval| start.saturating_add(part(length / 2, hash)).unwrap_or(start);
    let place = |time: Timestamp| match at(time) {
        Some(stretch) if stretch.0 > time => place_in(stretch),
        Some(_) | None => time,
    };
    let planned = place(due);
    if planned >= now {
        return planned;
    }
    // The renewal did not take place in it.
    match at(now) {
        Some((start, _)) if start <= planned => planned,
        Some(stretch) => place_in(stretch),
        None => planned,
    }
}

fn day(text: &str) -> Result<Weekday, String> {
    let known = DAYS.iter().find(|(name, _)| *name == text);
    known
        .map(|(_, day)| *day)
        .ok_or_else(|| format!("days: {text:?} is none of Mon, Tue, Wed, Thu, Fri, Sat and Sun"))
}

fn time(text: &str) -> Result<Time, String> {
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i8>().ok()).flatten()
    };
    let read = text
        .split_once(':')
        .and_then(|(hour, minute)| Time::new(number(hour)?, number(minute)?, 0, 0).ok());
    read.ok_or_else(|| format!("start: {text:?} is no time of the day like 22:00"))
}

fn zone_of(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("timeZone: {name:?} is not known; one is Europe/Berlin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn weekly(days: &[&str], start: &str, hours: i64, zone: &str) -> RenewalWindow {
        let days: Vec<String> = days.iter().map(|day| (*day).to_owned()).collect();
        RenewalWindow::new(&days, start, SignedDuration::from_hours(hours), Some(zone)).unwrap()
    }

    #[test]
    fn a_renewal_waits_for_the_next_window_in_its_time_zone() {
        // 22 November 2026 is a Sunday.
        let night = weekly(&["Sat", "Sun"], "22:00", 6, "Europe/Berlin");
        for (due, wanted) in [
            ("2026-11-22T12:00:00Z", "2026-11-22T21:00:00Z"),
            ("2026-11-22T20:59:59Z", "2026-11-22T21:00:00Z"),
            ("2026-11-22T21:00:00Z", "2026-11-22T21:00:00Z"),
            ("2026-11-23T02:59:59Z", "2026-11-23T02:59:59Z"),
            ("2026-11-23T03:00:00Z", "2026-11-28T21:00:00Z"),
            // Summer time: the same hour of the local clock.
            ("2026-07-15T00:00:00Z", "2026-07-18T20:00:00Z"),
        ] {
            let planned = next(std::slice::from_ref(&night), at(due), at(due), 0);
            assert_eq!(planned, at(wanted), "{due}");
        }
    }

    #[test]
    fn the_first_of_several_windows_counts() {
        let two = [weekly(&["Mon"], "06:00", 1, "UTC"), weekly(&["Sun"], "20:00", 1, "UTC")];
        let due = at("2026-11-22T12:00:00Z");
        assert_eq!(next(&two, due, due, 0), at("2026-11-22T20:00:00Z"));
    }

    #[test]
    fn waiting_renewals_are_spread_over_the_first_half() {
        let night = [weekly(&[], "22:00", 6, "UTC")];
        let due = at("2026-11-22T12:00:00Z");
        assert_eq!(next(&night, due, due, 1 << 31), at("2026-11-22T23:30:00Z"));
        let last = next(&night, due, due, u32::MAX);
        assert!(last < at("2026-11-23T01:00:00Z") && last > at("2026-11-23T00:59:59Z"), "{last}");
    }

    #[test]
    fn a_missed_renewal_takes_place_in_an_open_window_or_the_next_one() {
        let night = [weekly(&["Sun"], "22:00", 6, "UTC")];
        let due = at("2026-11-22T12:00:00Z");
        let open = at("2026-11-23T03:00:00Z");
        assert_eq!(next(&night, due, open, 0), at("2026-11-22T22:00:00Z"));
        assert_eq!(next(&night, due, at("2026-11-23T05:00:00Z"), 0), at("2026-11-29T22:00:00Z"));
    }

    #[test]
    fn the_instant_stays_until_a_window_ends() {
        let night = weekly(&["Sun"], "22:00", 6, "UTC");
        let early = weekly(&["Mon"], "02:00", 4, "UTC");
        // The hash selects one and a half hours after the start of a night.
        let hash = 1 << 31;
        for (due, now, wanted) in [
            // Before it is due, and then due, in the same night.
            ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z", "2026-11-22T23:30:00Z"),
            ("2026-11-22T12:00:00Z", "2026-11-22T22:10:00Z", "2026-11-22T23:30:00Z"),
            ("2026-11-22T12:00:00Z", "2026-11-22T23:30:00Z", "2026-11-22T23:30:00Z"),
            ("2026-11-22T12:00:00Z", "2026-11-22T23:30:01Z", "2026-11-22T23:30:00Z"),
            ("2026-11-22T12:00:00Z", "2026-11-23T03:59:59Z", "2026-11-22T23:30:00Z"),
            // It was missed, and a night is open.
            ("2026-11-22T12:00:00Z", "2026-11-23T04:00:00Z", "2026-11-23T03:00:00Z"),
            // Due within the night.
            ("2026-11-22T22:30:00Z", "2026-11-23T03:00:00Z", "2026-11-22T22:30:00Z"),
            // It was missed in that night.
            ("2026-11-22T12:00:00Z", "2026-11-23T06:00:00Z", "2026-11-29T23:30:00Z"),
            ("2026-11-22T12:00:00Z", "2026-11-29T21:59:59Z", "2026-11-29T23:30:00Z"),
            // The same time in the next night.
            ("2026-11-22T12:00:00Z", "2026-11-29T22:00:00Z", "2026-11-29T23:30:00Z"),
            ("2026-11-22T12:00:00Z", "2026-11-30T03:59:59Z", "2026-11-29T23:30:00Z"),
        ] {
            let planned = next(&[night.clone(), early.clone()], at(due), at(now), hash);
            assert_eq!(planned, at(wanted), "due at {due}, seen at {now}");
        }
    }

    #[test]
    fn clock_changes_lose_no_window() {
        for (due, wanted) in [
            // 28 March 2027, 02:00 to 03:00 is skipped: the start is moved by the same amount.
            ("2027-03-28T00:00:00Z", "2027-03-28T01:30:00Z"),
            // 31 October 2027, 02:00 to 03:00 occurs twice: the first counts.
            ("2027-10-31T00:00:00Z", "2027-10-31T00:30:00Z"),
        ] {
            let early = [weekly(&["Sun"], "02:30", 1, "Europe/Berlin")];
            assert_eq!(next(&early, at(due), at(due), 0), at(wanted), "{due}");
        }
    }

    #[test]
    fn an_invalid_window_is_refused_with_the_name_of_its_field() {
        let new = |days: &[&str], start: &str, hours: i64, zone: &str| {
            let days: Vec<String> = days.iter().map(|day| (*day).to_owned()).collect();
            RenewalWindow::new(&days, start, SignedDuration::from_hours(hours), Some(zone))
        };
        for (outcome, field) in [
            (new(&["Sonntag"], "22:00", 1, "UTC"), "days: "),
            (new(&["sun"], "22:00", 1, "UTC"), "days: "),
            (new(&[], "24:00", 1, "UTC"), "start: "),
            (new(&[], "9:00", 1, "UTC"), "start: "),
            (new(&[], "+9:00", 1, "UTC"), "start: "),
            (new(&[], "22.00", 1, "UTC"), "start: "),
            (new(&[], "", 1, "UTC"), "start: "),
            (new(&[], "22:00", 0, "UTC"), "duration: "),
            (new(&[], "22:00", -1, "UTC"), "duration: "),
            (new(&[], "22:00", 25, "UTC"), "duration: "),
            (new(&[], "22:00", 1, "Europe/Nowhere"), "timeZone: "),
            (new(&[], "22:00", 1, ""), "timeZone: "),
            (new(&[], "22:00", 1, "../../etc/passwd"), "timeZone: "),
        ] {
            let why = outcome.unwrap_err();
            assert!(why.starts_with(field), "{why}");
        }
    }
}
