//! Classifies errors of API servers and formats them for users.

use std::error::Error;

use super::fence::NotLeading;

/// Whether an error should be logged. Conflicts are normal, and a process without leadership is about
/// to exit.
#[must_use]
pub fn is_unexpected(error: &kube::Error) -> bool {
    !NotLeading::is(error) && !matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether the API server refused the request permanently. Conflicts, missing objects and overload are
/// not permanent.
#[must_use]
pub fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if (400..500).contains(&status.code) && ![404, 408, 409, 429].contains(&status.code))
}

/// Formats an error in one line: the message of the API server, or the cause if there was no response.
/// The format of kube repeats the whole status object and all layers of a connection.
#[must_use]
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        kube::Error::Service(cause) => no_answer(cause.as_ref()),
        kube::Error::HyperError(cause) => no_answer(cause),
        other => {
            let mut line = other.to_string();
            for cause in causes(other).skip(1) {
                let text = cause.to_string();
                if !line.contains(&text) {
                    line = format!("{line}: {text}");
                }
            }
            line
        }
    }
}

fn no_answer(error: &(dyn Error + 'static)) -> String {
    let cause = causes(error).last().map(ToString::to_string).unwrap_or_default();
    // rustls adds the URL of its manual.
    let cause = cause.split(": https://").next().unwrap_or_default();
    format!("the API server does not answer: {cause}")
}

/// The error and its chain of causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16) -> kube::Error {
        let status = kube::core::Status { code, ..kube::core::Status::failure("no", "Reason") };
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn a_broken_connection_is_reported_with_its_innermost_cause() {
        let eof = "peer closed connection: https://docs.rs/rustls/manual";
        let outer = std::io::Error::other(std::io::Error::other(eof));
        let error = kube::Error::Service(Box::new(outer));
        assert_eq!(brief(&error), "the API server does not answer: peer closed connection");
        assert_eq!(brief(&self::error(403)), "no (403)");
    }

    #[test]
    fn outages_and_conflicts_are_not_refusals() {
        for (code, refused) in [
            (403, true),
            (422, true),
            (401, true),
            (404, false),
            (409, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(is_refusal(&error(code)), refused, "{code}");
        }
    }
}
