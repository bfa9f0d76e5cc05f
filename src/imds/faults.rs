//! Delays and forced statuses, exactly as imds_mock.py has them: by the path as it was asked,
//! query cut, without folding slashes (reference/imds_mock_py.md, "Order of checks").

use std::time::Duration;

use crate::config::Config;
use crate::http::{Method, Request};

/// How long to wait before answering. A PUT never waits; a path's own delay replaces the default.
pub fn delay(config: &Config, request: &Request) -> Duration {
    match request.method {
        Method::Put => Duration::ZERO,
        _ => *(config.endpoint_delay)
            .get(request.raw_path)
            .unwrap_or(&config.default_delay),
    }
}

/// The status to answer with, empty, whatever else is asked. A PUT is never forced; 0 is none.
pub fn forced_status(config: &Config, request: &Request) -> Option<u16> {
    let status = *config.force_status.get(request.raw_path)?;
    (request.method != Method::Put && status != 0).then_some(status)
}
