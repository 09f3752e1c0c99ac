//! The URL of a server.

/// Host and port of a URL.
pub(super) fn authority(url: &str) -> Option<String> {
    url.parse::<http::Uri>().ok()?.authority().map(ToString::to_string)
}
