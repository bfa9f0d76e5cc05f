//! The tree that clients walk: leaves are declared by path, and directories and listings follow
//! from them, so that what is listed can be fetched and nothing else can (docs/architecture.md,
//! D4). Looking up costs one hash, whatever the tree's size.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::meaning::Meaning;
use crate::config::since;
use crate::http::Entity;
use crate::role::RoleDelivery;
use crate::version::Version;

/// What a leaf takes beside its path and its value.
const LEAF_BYTES: usize = 256;

/// Makes a leaf's entity at the moment it is asked for. It is called once a request, so it hands
/// out what it prepared earlier wherever it can.
pub type Live = Arc<dyn Fn(RoleDelivery) -> Found + Send + Sync>;

/// Who reads: what a path holds depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    pub version: Version,
    pub delivery: RoleDelivery,
}

impl Reader {
    /// One who asks `latest` with a token.
    pub const LATEST: Reader = Reader {
        version: Version::NEWEST,
        delivery: RoleDelivery::V2,
    };
}

/// What is found at a path.
#[derive(Clone)]
pub struct Found {
    pub entity: Arc<Entity>,
    pub meaning: Meaning,
}

impl From<Arc<Entity>> for Found {
    fn from(entity: Arc<Entity>) -> Found {
        Found {
            entity,
            meaning: Meaning::Nothing,
        }
    }
}

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
    rank: Option<usize>,
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
    pub fn rank(&mut self, path: impl Into<String>, rank: usize) {
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
        let fixed =
            |content_type, body: &[u8]| Arc::new(Entity::new(content_type, Some(produced), body));
        let mut items = HashMap::new();
        let mut listings: BTreeMap<&str, Names> = BTreeMap::new();
        let top = TOP.map(|name| ((usize::MAX, name), (Version::FIRST, name.to_owned())));
        listings.insert("", top.into());
        for (path, leaf) in &self.leaves {
            let since = since(path);
            let mut put =
                |path: &str, shown| drop(items.insert(path.into(), Item { since, shown }));
            match leaf {
                Leaf::Text(bytes) => {
                    let found = Found {
                        entity: fixed("text/plain", bytes),
                        meaning: Meaning::of(path, bytes),
                    };
                    put(path, Shown::Fixed(found));
                }
                Leaf::Bytes(bytes) => {
                    put(
                        path,
                        Shown::Fixed(fixed("application/octet-stream", bytes).into()),
                    );
                    // Asked with a slash, it has the type of everything else
                    // (docs/reference/metadata.md, "Paths").
                    put(
                        &format!("{path}/"),
                        Shown::Fixed(fixed("text/plain", bytes).into()),
                    );
                }
                Leaf::Live(live) => put(path, Shown::Live(live.clone())),
            }
            let mut child = path.as_str();
            let mut is_directory = false;
            loop {
                let (parent, name) = child.rsplit_once('/').unwrap_or(("", child));
                let place = self.places.get(child).cloned().unwrap_or_default();
                let names = listings.entry(parent).or_default();
                if !place.unlisted {
                    let key = (place.rank.unwrap_or(usize::MAX), name);
                    let slash = if is_directory { "/" } else { "" };
                    let label = || place.label.unwrap_or_else(|| format!("{name}{slash}"));
                    let (first, _) = names.entry(key).or_insert_with(|| (since, label()));
                    *first = since.min(*first);
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
            // Each version that brought a name has a listing of its own, until the next.
            let editions: BTreeSet<Version> = names.values().map(|(since, _)| *since).collect();
            let edition = |version| {
                let known = names.values().filter(|(since, _)| *since <= version);
                let lines: Vec<&str> = known.map(|(_, label)| label.as_str()).collect();
                (version, fixed("text/plain", lines.join("\n").as_bytes()))
            };
            let shown = Shown::Listing(editions.iter().map(|version| edition(*version)).collect());
            // A directory with nothing but unlisted names is there all the same.
            let since = editions.first().copied().unwrap_or(Version::FIRST);
            items.insert(path.into(), Item { since, shown });
        }
        Ok(Tree { items })
    }
}

/// What stands at the top of every version, with no slash: also where there is no user data, and
/// under versions that have no dynamic tree (docs/reference/metadata.md, "Listings").
const TOP: [&str; 3] = ["dynamic", "meta-data", "user-data"];

/// The names in a directory, in the order of their listing: by rank, then by name. Each with the
/// first version that has it and how it is listed.
type Names<'a> = BTreeMap<(usize, &'a str), (Version, String)>;

struct Item {
    /// The first version that has it.
    since: Version,
    shown: Shown,
}

enum Shown {
    Fixed(Found),
    Live(Live),
    /// As it is from each of these versions on, the oldest first.
    Listing(Box<[(Version, Arc<Entity>)]>),
}

/// A finished tree, as every version has it.
pub struct Tree {
    items: HashMap<Box<str>, Item>,
}

impl Tree {
    /// What stands at `path` for `reader`: a leaf or a listing, either with a slash behind it or
    /// without.
    pub fn get(&self, path: &str, reader: Reader) -> Option<Found> {
        let version = reader.version;
        let item = match path.strip_suffix('/') {
            Some(bare) => self.items.get(path).or_else(|| self.items.get(bare)),
            None => self.items.get(path),
        };
        let item = item.filter(|item| item.since <= version)?;
        Some(match &item.shown {
            Shown::Fixed(found) => found.clone(),
            Shown::Live(live) => live(reader.delivery),
            Shown::Listing(editions) => {
                let edition = editions.iter().rfind(|(since, _)| *since <= version);
                edition?.1.clone().into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Leaves {
        let mut leaves = Leaves::default();
        paths.iter().for_each(|path| leaves.text(*path, *path));
        leaves
    }

    fn of(version: &str) -> Reader {
        Reader {
            version: Version::parse(version).unwrap(),
            ..Reader::LATEST
        }
    }

    fn body(tree: &Tree, path: &str) -> Option<String> {
        tree.get(path, Reader::LATEST)
            .map(|found| String::from_utf8(found.entity.body().to_vec()).unwrap())
    }

    #[test]
    fn listings_follow_from_leaves() {
        let built = tree(&["meta-data/b/x", "meta-data/a", "meta-data/b-c", "user-data"])
            .build("now")
            .unwrap();
        for (path, listing) in [
            ("", Some("dynamic\nmeta-data\nuser-data")),
            ("meta-data", Some("a\nb/\nb-c")),
            ("meta-data/b", Some("x")),
            ("meta-data/b/", Some("x")),
            ("meta-data/b/x/", Some("meta-data/b/x")),
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
    fn a_version_has_what_existed_then_and_lists_just_that() {
        let mut leaves = tree(&[
            "meta-data/ami-id",
            "meta-data/placement/availability-zone",
            "meta-data/placement/region",
            "meta-data/tags/instance/Name",
            "dynamic/instance-identity/document",
        ]);
        leaves.put("user-data", Leaf::Bytes(b"x".to_vec()));
        let built = leaves.build("now").unwrap();
        let body = |version: &str, path| {
            let found = built.get(path, of(version))?;
            Some(String::from_utf8(found.entity.body().to_vec()).unwrap())
        };
        for (version, path, expected) in [
            ("1.0", "", Some("dynamic\nmeta-data\nuser-data")),
            ("1.0", "meta-data/", Some("ami-id")),
            ("1.0", "meta-data/placement", None),
            ("1.0", "dynamic/", None),
            ("1.0", "user-data", Some("x")),
            ("2008-02-01", "meta-data/", Some("ami-id\nplacement/")),
            (
                "2008-02-01",
                "meta-data/placement/",
                Some("availability-zone"),
            ),
            ("2008-02-01", "meta-data/placement/region", None),
            ("2009-04-04", "dynamic/", Some("instance-identity/")),
            (
                "2021-03-23",
                "meta-data/",
                Some("ami-id\nplacement/\ntags/"),
            ),
            (
                "2021-03-23",
                "meta-data/placement",
                Some("availability-zone\nregion"),
            ),
            ("latest", "meta-data", Some("ami-id\nplacement/\ntags/")),
        ] {
            assert_eq!(body(version, path).as_deref(), expected, "{version} {path}");
        }
    }

    #[test]
    fn what_only_the_configuration_knows_is_in_every_version() {
        let built = tree(&["meta-data/placement/rack", "dynamic/own/x"])
            .build("now")
            .unwrap();
        for path in ["meta-data/placement/rack", "dynamic/own/x", "dynamic/own/"] {
            assert!(built.get(path, of("1.0")).is_some(), "{path}");
        }
    }
}
