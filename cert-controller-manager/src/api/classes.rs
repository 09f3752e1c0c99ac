//! Classes of objects: the annotation `cert.gardener.cloud/class`.

/// The served classes, at least one. The comparison ignores case. Upstream converts only the flag to lower
/// case, so no manager serves an upper-case class there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Classes(Vec<String>);

/// The class of objects without the annotation.
const DEFAULT: &str = "gardencert";

impl Default for Classes {
    fn default() -> Self {
        Self(vec![DEFAULT.to_owned()])
    }
}

impl Classes {
    /// These classes, or the default class if there are none.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let mut classes = Vec::new();
        for class in names.iter().map(|name| normalise(name)).filter(|class| !class.is_empty()) {
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        if classes.is_empty() { Self::default() } else { Self(classes) }
    }

    /// Whether an object with this annotation is served.
    #[must_use]
    pub fn serves(&self, annotation: Option<&str>) -> bool {
        let class = annotation.map(normalise).filter(|class| !class.is_empty());
        let class = class.as_deref().unwrap_or(DEFAULT);
        self.0.iter().any(|served| served == class)
    }

    /// All classes, the main class first.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The main class.
    #[must_use]
    pub fn main(&self) -> &str {
        self.0.first().map_or(DEFAULT, String::as_str)
    }
}

fn normalise(class: &str) -> String {
    class.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_compared_without_case() {
        let classes =
            |text: &str| Classes::new(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        for (served, annotation, ours) in [
            ("", None, true),
            ("", Some(""), true),
            ("", Some(" GardenCert "), true),
            ("", Some("other"), false),
            ("Mine", Some("mine"), true),
            ("mine", Some("MINE"), true),
            ("mine", None, false),
            ("mine, gardencert", None, true),
            (" , ", None, true),
        ] {
            assert_eq!(classes(served).serves(annotation), ours, "{served:?} {annotation:?}");
        }
        assert_eq!(classes(" Mine,gardencert").main(), "mine");
        assert_eq!(classes("").main(), "gardencert");
    }
}
