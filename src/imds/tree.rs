//! The tree that clients walk: leaves are declared by path, and directories and listings follow
//! from them, so that what is listed can be fetched and nothing else can (design, D4). Looking up
//! costs one hash, whatever the tree's size.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::http::Entity;
use crate::role::RoleDelivery;

/// What a leaf takes beside its path and its value.
const LEAF_BYTES: usize = 256;

/// Makes a leaf's entity at the moment it is asked for. It is called once a request, so it hands
/// out what it prepared earlier wherever it can.
pub type Live = Arc<dyn Fn(RoleDelivery) -> Arc<Entity> + Send + Sync>;

/// What stands at the end of a path.
#[derive(Clone)]
pub enum Leaf {
    /// Always these bytes, as text/plain.
    Text(Vec<u8>),
    /// Always these bytes, as application/octet-stream.
    Bytes(Vec<u8>),
    Live(Live),
}

/// A leaf stands where a directory is, or below another leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub leaf: String,
    pub below_it: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{:?} has a value, so {:?} cannot be below it",
            self.leaf, self.below_it
        )
    }
}

/// How one name is shown in the listing it belongs to.
#[derive(Clone, Default)]
struct Place {
    /// Listings are in this order, then by name.
    rank: Option<u32>,
    label: Option<String>,
    unlisted: bool,
}

/// The leaves of a tree that is being put together, by path (no slash before or behind).
#[derive(Clone, Default)]
pub struct Leaves {
    leaves: BTreeMap<String, Leaf>,
    places: HashMap<String, Place>,
}

impl Leaves {
    /// Declares a leaf. A later one at the same path replaces it.
    pub fn put(&mut self, path: impl Into<String>, leaf: Leaf) {
        self.leaves.insert(path.into(), leaf);
    }

    /// Declares a text/plain leaf.
    pub fn text(&mut self, path: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.put(path, Leaf::Text(text.into()));
    }

    /// About how much memory they take, in bytes.
    pub fn bytes(&self) -> usize {
        let bytes = |(path, leaf): (&String, &Leaf)| match leaf {
            Leaf::Text(bytes) | Leaf::Bytes(bytes) => LEAF_BYTES + path.len() + bytes.len(),
            Leaf::Live(_) => LEAF_BYTES + path.len(),
        };
        self.leaves.iter().map(bytes).sum()
    }

    /// Removes a leaf, or a directory with all that is below it.
    pub fn remove(&mut self, path: &str) {
        let inside = format!("{path}/");
        self.leaves
            .retain(|at, _| at != path && !at.starts_with(&inside));
    }

    /// Puts the name at `path` at that rank of its listing instead of the alphabet's.
    pub fn rank(&mut self, path: impl Into<String>, rank: u32) {
        self.places.entry(path.into()).or_default().rank = Some(rank);
    }

    /// Lists the name at `path` as `label`.
    pub fn label(&mut self, path: impl Into<String>, label: String) {
        self.places.entry(path.into()).or_default().label = Some(label);
    }

    /// Whether [`Leaves::label`] named that path.
    pub fn has_label(&self, path: &str) -> bool {
        self.places
            .get(path)
            .is_some_and(|place| place.label.is_some())
    }

    /// Serves `path` without listing it.
    pub fn hide(&mut self, path: impl Into<String>) {
        self.places.entry(path.into()).or_default().unlisted = true;
    }

    /// Lays out every leaf and listing. `produced` is the HTTP date they carry.
    pub fn build(&self, produced: &str) -> Result<Tree, Conflict> {
        let mut items = HashMap::new();
        let mut listings: BTreeMap<&str, BTreeMap<(u32, &str), String>> = BTreeMap::new();
        listings.insert("", BTreeMap::new());
        for (path, leaf) in &self.leaves {
            let item = match leaf {
                Leaf::Text(bytes) => Item::fixed("text/plain", produced, bytes.clone()),
                Leaf::Bytes(bytes) => {
                    Item::fixed("application/octet-stream", produced, bytes.clone())
                }
                Leaf::Live(live) => Item::Live(live.clone()),
            };
            items.insert(path.as_str().into(), item);
            let mut child = path.as_str();
            let mut is_directory = false;
            loop {
                let (parent, name) = child.rsplit_once('/').unwrap_or(("", child));
                let place = self.places.get(child).cloned().unwrap_or_default();
                let names = listings.entry(parent).or_default();
                if !place.unlisted {
                    let key = (place.rank.unwrap_or(u32::MAX), name);
                    // The names at the top of a version carry no slash (reference/imds.md,
                    // section 1).
                    let slash = if is_directory && !parent.is_empty() {
                        "/"
                    } else {
                        ""
                    };
                    names.insert(key, place.label.unwrap_or_else(|| format!("{name}{slash}")));
                }
                if parent.is_empty() {
                    break;
                }
                (child, is_directory) = (parent, true);
            }
        }
        for (path, names) in listings {
            if self.leaves.contains_key(path) {
                let inside = format!("{path}/");
                let mut below = self.leaves.keys().filter(|at| at.starts_with(&inside));
                return Err(Conflict {
                    leaf: path.to_owned(),
                    below_it: below.next().cloned().unwrap_or_default(),
                });
            }
            let lines: Vec<String> = names.into_values().collect();
            items.insert(
                path.into(),
                Item::fixed("text/plain", produced, lines.join("\n")),
            );
        }
        Ok(Tree { items })
    }
}

enum Item {
    Fixed(Arc<Entity>),
    Live(Live),
}

impl Item {
    fn fixed(content_type: &str, produced: &str, body: impl Into<Vec<u8>>) -> Item {
        Item::Fixed(Arc::new(Entity::new(content_type, Some(produced), body)))
    }
}

/// A finished tree.
pub struct Tree {
    items: HashMap<Box<str>, Item>,
}

impl Tree {
    /// The leaf or the listing at `path`, which has no slash before or behind it, as version 2 of
    /// the protocol gets it.
    pub fn get(&self, path: &str) -> Option<Arc<Entity>> {
        self.get_by(path, RoleDelivery::V2)
    }

    /// The same as either version gets it.
    pub fn get_by(&self, path: &str, delivery: RoleDelivery) -> Option<Arc<Entity>> {
        let item = match self.items.get(path) {
            None if path.contains('%') => self.items.get(unquote(path).as_str()),
            found => found,
        };
        Some(match item? {
            Item::Fixed(entity) => entity.clone(),
            Item::Live(live) => live(delivery),
        })
    }
}

/// Resolves the escapes of the characters of [`crate::config::is_segment`] that Python's `quote`
/// escapes: cloud-init quotes the names it reads in a listing. Every other escape stays: the
/// program we replace resolves none.
fn unquote(path: &str) -> String {
    let mut parts = path.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(|code| b"!$&'()*+,=:@".contains(code)) {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[2..]);
            }
            None => {
                plain.push('%');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Leaves {
        let mut leaves = Leaves::default();
        paths.iter().for_each(|path| leaves.text(*path, *path));
        leaves
    }

    fn body(tree: &Tree, path: &str) -> Option<String> {
        tree.get(path)
            .map(|entity| String::from_utf8(entity.body().to_vec()).unwrap())
    }

    #[test]
    fn listings_follow_from_leaves() {
        let built = tree(&["meta-data/b/x", "meta-data/a", "meta-data/b-c", "user-data"])
            .build("now")
            .unwrap();
        for (path, listing) in [
            ("", Some("meta-data\nuser-data")),
            ("meta-data", Some("a\nb/\nb-c")),
            ("meta-data/b", Some("x")),
            ("meta-data/b/x", Some("meta-data/b/x")),
            ("meta-data/c", None),
            ("meta-data/b/x/y", None),
        ] {
            assert_eq!(body(&built, path).as_deref(), listing, "{path}");
        }
    }

    #[test]
    fn ranks_labels_and_hidden_names_hold() {
        let mut leaves = tree(&["d/k/0/x", "d/k/10/x", "d/k/9/x", "d/k/secret/x"]);
        for n in [0, 9, 10] {
            leaves.rank(format!("d/k/{n}"), n);
            leaves.label(format!("d/k/{n}"), format!("{n}=name"));
        }
        leaves.hide("d/k/secret");
        let built = leaves.build("now").unwrap();
        assert_eq!(body(&built, "d/k").unwrap(), "0=name\n9=name\n10=name");
        assert_eq!(body(&built, "d/k/secret").unwrap(), "x");
    }

    #[test]
    fn a_removed_directory_takes_its_empty_parents_along() {
        let mut leaves = tree(&["m/a/b/c", "m/ab"]);
        leaves.remove("m/a/b");
        let built = leaves.build("now").unwrap();
        assert_eq!(body(&built, "m").unwrap(), "ab");
        assert_eq!(body(&built, "m/a"), None);
    }

    #[test]
    fn a_leaf_below_a_leaf_is_refused_with_both_named() {
        let conflict = tree(&["m/a", "m/a/b"]).build("now").err().unwrap();
        let (leaf, below_it) = ("m/a".into(), "m/a/b".into());
        assert_eq!(conflict, Conflict { leaf, below_it });
    }

    #[test]
    fn quoted_names_are_found_and_nothing_else_is_unquoted() {
        let built = tree(&["t/a=b@c", "t/d-e"]).build("now").unwrap();
        assert!(body(&built, "t/a%3Db%40c").is_some());
        assert_eq!(body(&built, "t/d%2De"), None);
        assert_eq!(body(&built, "t%2Fd-e"), None);
        for path in [
            "t/%", "t/%4", "t/%zz", "t/%c3%a9", "t/%00", "%2e%2e", "t/%é",
        ] {
            assert_eq!(body(&built, path), None, "{path}");
        }
    }
}
