//! Any text is a configuration that can be served and printed, or has problems that can be shown.
#![no_main]

use std::path::Path;

use imds_mock::config::Config;
use imds_mock::mock::Parts;

libfuzzer_sys::fuzz_target!(|text: &str| {
    // A configuration may name a file to read; none of this machine's.
    if text.contains("user_data_file") {
        return;
    }
    match Config::parse(text, Path::new(""), &[]) {
        Err(problems) => problems
            .iter()
            .for_each(|problem| drop(problem.to_string())),
        Ok((config, _)) => {
            let printed = config.effective().to_string();
            if let Ok(parts) = Parts::new(config) {
                drop(parts);
                let again = Config::parse(&printed, Path::new(""), &[]);
                let secrets = printed.contains("\"credentials\"");
                assert!(
                    again.is_ok() || secrets,
                    "what is printed can be read: {printed}"
                );
            }
        }
    }
});
