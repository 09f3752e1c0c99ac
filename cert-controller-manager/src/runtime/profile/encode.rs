//! Encodes a CPU profile as protocol buffers, with a subset of `profile.proto` of pprof. The numbers are
//! the field numbers of that file:
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>.

use std::{collections::HashMap, time::Duration};

/// A line in a function.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Location {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// See the [module](self).
pub(super) struct Profile {
    start: Duration,
    duration: Duration,
    /// Nanoseconds between two samples.
    period: i64,
    texts: HashMap<String, u64>,
    functions: HashMap<(u64, u64), u64>,
    locations: HashMap<(u64, u32), u64>,
    /// In encoded form.
    samples: Vec<u8>,
}

impl Profile {
    /// An empty profile that started `start` after the Unix epoch.
    pub(super) fn new(start: Duration, duration: Duration, period: i64) -> Self {
        // The first string must be empty.
        let texts = HashMap::from([(String::new(), 0)]);
        Self {
            start,
            duration,
            period,
            texts,
            functions: HashMap::new(),
            locations: HashMap::new(),
            samples: Vec::new(),
        }
    }

    /// Adds `count` samples of `stack`, innermost function first.
    pub(super) fn add(&mut self, stack: &[Location], thread: &str, count: i64) {
        let mut locations = Vec::new();
        for location in stack {
            varint(&mut locations, self.location(location));
        }
        let mut values = Vec::new();
        varint(&mut values, unsigned(count));
        varint(&mut values, unsigned(count.saturating_mul(self.period)));
        let mut label = Vec::new();
        number(&mut label, 1, self.text("thread"));
        number(&mut label, 2, self.text(thread));
        let mut sample = Vec::new();
        bytes(&mut sample, 1, &locations);
        bytes(&mut sample, 2, &values);
        bytes(&mut sample, 3, &label);
        bytes(&mut self.samples, 2, &sample);
    }

    /// The bytes of the file.
    pub(super) fn encode(mut self) -> Vec<u8> {
        let samples_unit = self.kind("samples", "count");
        let time_unit = self.kind("cpu", "nanoseconds");
        let mut out = Vec::new();
        bytes(&mut out, 1, &samples_unit);
        bytes(&mut out, 1, &time_unit);
        out.append(&mut self.samples);
        for ((function, line), id) in &self.locations {
            let mut entry = Vec::new();
            number(&mut entry, 1, *function);
            number(&mut entry, 2, u64::from(*line));
            let mut location = Vec::new();
            number(&mut location, 1, *id);
            bytes(&mut location, 4, &entry);
            bytes(&mut out, 4, &location);
        }
        for ((name, file), id) in &self.functions {
            let mut function = Vec::new();
            number(&mut function, 1, *id);
            number(&mut function, 2, *name);
            number(&mut function, 4, *file);
            bytes(&mut out, 5, &function);
        }
        let mut texts: Vec<_> = self.texts.into_iter().collect();
        texts.sort_by_key(|(_, place)| *place);
        for (text, _) in texts {
            bytes(&mut out, 6, text.as_bytes());
        }
        number(&mut out, 9, u64::try_from(self.start.as_nanos()).unwrap_or_default());
        number(&mut out, 10, u64::try_from(self.duration.as_nanos()).unwrap_or_default());
        bytes(&mut out, 11, &time_unit);
        number(&mut out, 12, unsigned(self.period));
        out
    }

    fn kind(&mut self, name: &str, unit: &str) -> Vec<u8> {
        let mut kind = Vec::new();
        number(&mut kind, 1, self.text(name));
        number(&mut kind, 2, self.text(unit));
        kind
    }

    fn location(&mut self, location: &Location) -> u64 {
        let named = (self.text(&location.function), self.text(&location.file));
        let function = place(&mut self.functions, named);
        place(&mut self.locations, (function, location.line))
    }

    fn text(&mut self, text: &str) -> u64 {
        if let Some(place) = self.texts.get(text) {
            return *place;
        }
        let place = self.texts.len() as u64;
        self.texts.insert(text.to_owned(), place);
        place
    }
}

/// The id of `key`, starting at one, because zero means none.
fn place<K: Eq + std::hash::Hash>(places: &mut HashMap<K, u64>, key: K) -> u64 {
    let next = places.len() as u64 + 1;
    *places.entry(key).or_insert(next)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or_default()
}

/// A field with a number.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// A field with bytes: text, another message, or packed numbers.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_seven_bits_at_a_time() {
        let cases: [(u64, &[u8]); 4] = [
            (0, &[0]),
            (127, &[127]),
            (300, &[0xac, 0x02]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }

    #[test]
    fn a_function_and_a_text_are_written_once() {
        let line = |line| Location { function: "work".into(), file: "work.rs".into(), line };
        let mut profile = Profile::new(Duration::ZERO, Duration::from_secs(1), 10);
        profile.add(&[line(1), line(2)], "main", 3);
        profile.add(&[line(1)], "main", 4);
        assert_eq!((profile.functions.len(), profile.locations.len()), (1, 2));
        let encoded = profile.encode();
        let count = encoded.windows(4).filter(|bytes| bytes == b"main").count();
        assert_eq!(count, 1);
    }
}
