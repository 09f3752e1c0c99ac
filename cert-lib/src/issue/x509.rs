//! Building signing requests.
