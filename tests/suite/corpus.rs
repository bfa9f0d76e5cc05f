//! The inputs that the fuzz targets start from, replayed: no panic, and what is printed can be read
//! again. Those of the request head and of STS's answers are replayed beside their parsers.

use std::fs;
use std::path::Path;

use imds_mock::config::Config;
use imds_mock::instance::{Leaves, Reader};
use imds_mock::mock::Parts;

fn corpus(target: &str) -> Vec<String> {
    let files =
        fs::read_dir(format!("fuzz/corpus/{target}")).expect("it is part of the repository");
    let texts: Vec<String> = files
        .map(|file| fs::read_to_string(file.expect("a file").path()).expect("UTF-8"))
        .collect();
    assert!(!texts.is_empty(), "{target}");
    texts
}

#[test]
fn configurations_are_served_and_printed_or_have_problems() {
    let (mut served, mut wrong) = (0, 0);
    for text in corpus("config") {
        let Ok((config, _)) = Config::parse(&text, Path::new(""), &[]) else {
            wrong += 1;
            continue;
        };
        let printed = config.effective().to_string();
        Parts::new(config).map(drop).expect("it fits together");
        let again = Config::parse(&printed, Path::new(""), &[]);
        assert!(again.is_ok(), "{printed}");
        served += 1;
    }
    assert!(served >= 2 && wrong >= 1);
}

#[test]
fn paths_make_a_tree_or_a_conflict() {
    for text in corpus("tree") {
        let (declared, asked) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut leaves = Leaves::default();
        declared.lines().for_each(|path| leaves.text(path, path));
        if let Ok(tree) = leaves.build("now") {
            assert!(
                declared
                    .lines()
                    .all(|path| tree.get(path, Reader::LATEST).is_some())
            );
            asked
                .lines()
                .for_each(|path| drop(tree.get(path, Reader::LATEST)));
        }
    }
}
