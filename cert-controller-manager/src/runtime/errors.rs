//! Errors of API servers in words for a person.

/// What an API server said, in one line: its own message where there is one. kube prints the whole
/// status object, twice.
#[must_use]
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => {
            let mut line = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                let text = error.to_string();
                if !line.contains(&text) {
                    line = format!("{line}: {text}");
                }
                cause = error.source();
            }
            line
        }
    }
}
