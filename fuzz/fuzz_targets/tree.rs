//! Any paths make a tree or a conflict, and no path found in a tree lies outside it.
#![no_main]

use imds_mock::instance::{Leaves, Reader};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (declared, asked) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut leaves = Leaves::default();
    let paths: Vec<&str> = declared.lines().filter(|path| !path.is_empty()).collect();
    for path in &paths {
        leaves.text(*path, *path);
    }
    let Ok(tree) = leaves.build("now") else {
        return;
    };
    for path in &paths {
        let found = tree
            .get(path, Reader::LATEST)
            .expect("what is declared can be fetched");
        assert_eq!(found.entity.body(), path.as_bytes());
    }
    for path in asked.lines() {
        tree.get(path, Reader::LATEST);
    }
});
