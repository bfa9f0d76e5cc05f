//! `--help`, the README and the man pages name the same flags and keys as the programs.

use std::collections::BTreeSet;
use std::process::Command;

use imds_mock::config::{Category, INTERFACE, keys};

const README: &str = include_str!("../README.md");
const IMDS_MOCK_8: &str = include_str!("../man/imds_mock.8");
const GETIMDS_1: &str = include_str!("../man/getimds.1");

fn help(program: &str) -> String {
    let output = Command::new(program).arg("--help").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// Words of `text` that begin with `prefix`, without it, up to the first character that is neither
/// a letter, a digit, `-` nor `_`.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    (text.match_indices(prefix))
        .map(|(at, _)| {
            let rest = &text[at + prefix.len()..];
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            rest[..rest.find(|c| !legal(c)).unwrap_or(rest.len())].to_owned()
        })
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

#[test]
fn the_man_pages_have_every_flag_of_help_and_no_other() {
    for (program, page) in [
        (env!("CARGO_BIN_EXE_imds_mock"), IMDS_MOCK_8),
        (env!("CARGO_BIN_EXE_getimds"), GETIMDS_1),
    ] {
        assert_eq!(
            words(page, "Fl -"),
            words(&help(program), "--"),
            "{program}"
        );
    }
}

#[test]
fn the_readme_names_no_flag_that_is_not_there() {
    let mut known = words(&help(env!("CARGO_BIN_EXE_imds_mock")), "--");
    known.extend(words(&help(env!("CARGO_BIN_EXE_getimds")), "--"));
    // Of cargo and curl.
    known.extend(
        [
            "release",
            "bin",
            "path",
            "data-binary",
            "bench",
            "ignored",
            "also",
        ]
        .map(str::to_owned),
    );
    let unknown: Vec<_> = words(README, "--").difference(&known).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_key_is_in_the_readme_and_in_the_man_page() {
    let interface: Vec<String> = INTERFACE.iter().map(Category::key).collect();
    let all = keys().into_iter().chain(interface);
    for key in all {
        assert!(README.contains(&format!("`{key}`")), "README.md: {key}");
        let named = IMDS_MOCK_8
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .any(|word| word == key);
        assert!(named, "man/imds_mock.8: {key}");
    }
}

#[test]
fn the_key_tables_of_the_readme_name_nothing_else() {
    let known = keys();
    let rows = README
        .split("## Configuration")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap();
    for row in rows.lines().filter(|row| row.starts_with("| `")) {
        let cell = row.split('|').nth(1).unwrap();
        for key in cell.split('`').skip(1).step_by(2) {
            assert!(known.contains(key), "{key}");
        }
    }
}
