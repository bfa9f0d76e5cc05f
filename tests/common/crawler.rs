//! A walker that knows EC2's listings and nothing else: a name that ends in a slash is a directory,
//! any other has a value, and each has to answer 200 (docs/reference/metadata.md, "Listings").

use std::collections::BTreeMap;

use super::{Answer, Connection, Mock, TOKEN, http};

/// Everything below `from` (a directory, with its slash) by path: listings and values.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// Walks everything below the directory `from`. Panics at a name that does not answer 200, but for
/// the two that EC2 lists at the top of a version whether they exist or not.
pub fn crawl(mock: &Mock, from: &str) -> Tree {
    let mut walk = Walk {
        connection: mock.connect(),
        token: mock.token(),
        found: Tree::new(),
    };
    walk.directory(from);
    walk.found
}

/// The paths that a listing at `directory` names, directories with their slash.
pub fn named(directory: &str, listing: &str) -> Vec<String> {
    let depth = directory.matches('/').count();
    let names = listing.lines().map(|name| match name.split_once('=') {
        // `0=my-key` is the directory `0/`.
        Some((index, _)) if is_index(directory, index) => format!("{index}/"),
        _ => name.to_owned(),
    });
    names
        .map(|name| match depth {
            // Versions, and what is at the top of one, carry no slash.
            1 => format!("{directory}{name}/"),
            2 if name != "user-data" => format!("{directory}{name}/"),
            _ => format!("{directory}{name}"),
        })
        .collect()
}

fn is_index(directory: &str, name: &str) -> bool {
    directory.ends_with("/meta-data/public-keys/") && name.parse::<u32>().is_ok()
}

/// `/VERSION/user-data`, `/VERSION/dynamic/`.
fn is_listed_anyway(path: &str) -> bool {
    let below = path.trim_start_matches('/').split_once('/');
    below.is_some_and(|(_, name)| name == "user-data" || name == "dynamic/")
}

struct Walk<'a> {
    connection: Connection,
    token: &'a str,
    found: Tree,
}

impl Walk<'_> {
    fn directory(&mut self, path: &str) {
        let listing = String::from_utf8(self.fetch(path)).expect("a listing is text");
        assert!(
            !listing.ends_with('\n'),
            "{path}: a newline behind the last name"
        );
        for below in named(path, &listing) {
            assert!(!self.found.contains_key(&below), "{below} is listed twice");
            if is_listed_anyway(&below) && self.ask(&below).status == 404 {
                continue;
            }
            match below.ends_with('/') {
                true => self.directory(&below),
                false => drop(self.fetch(&below)),
            }
        }
    }

    fn ask(&mut self, path: &str) -> Answer {
        let fields = [(TOKEN, self.token), ("Connection", "keep-alive")];
        self.connection
            .send(http::request("GET", path, &fields))
            .answer()
    }

    fn fetch(&mut self, path: &str) -> Vec<u8> {
        let answer = self.ask(path);
        assert_eq!(answer.status, 200, "{path} is listed");
        self.found.insert(path.to_owned(), answer.body.clone());
        answer.body
    }
}
