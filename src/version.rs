//! The versions of EC2's metadata, and which of them brought what (docs/reference/metadata.md,
//! "Versions").

/// What EC2 lists at `/` before `latest`, the oldest first.
pub const DATED: [&str; 30] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
    "2025-10-04",
    "2026-04-15",
];

/// The name that always answers as the newest version does.
pub const LATEST: &str = "latest";

/// One of [`DATED`]; the later is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(usize);

impl Version {
    pub const FIRST: Version = Version(0);
    pub const NEWEST: Version = Version(DATED.len() - 1);

    /// The version that a path's first segment names.
    pub fn parse(segment: &str) -> Option<Version> {
        if segment == LATEST {
            return Some(Version::NEWEST);
        }
        let index = DATED.binary_search(&segment).ok()?;
        Some(Version(index))
    }

    /// The first version with something that the documentation dates `introduced`: the first that
    /// is not older. There has to be one.
    pub const fn since(introduced: &str) -> Version {
        let mut index = 0;
        while is_before(DATED[index], introduced) {
            index += 1;
        }
        Version(index)
    }
}

/// Whether `a` sorts before `b`: as texts, and so as versions.
const fn is_before(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_found_by_its_name_and_no_other_is() {
        assert!(DATED.is_sorted());
        for (index, name) in DATED.iter().enumerate() {
            assert_eq!(Version::parse(name), Some(Version(index)));
            assert_eq!(Version::since(name), Version(index));
        }
        assert_eq!(Version::parse("latest"), Version::parse("2026-04-15"));
        for name in [
            "",
            "Latest",
            "2.0",
            "2021-03-24",
            "0000-00-00",
            "1999-01-01",
        ] {
            assert_eq!(Version::parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_dated_between_two_versions_came_with_the_later() {
        for (introduced, name) in [
            ("2016-11-15", "2018-03-28"),
            ("2020-08-24", "2020-10-27"),
            ("2020-11-01", "2021-01-03"),
        ] {
            assert_eq!(Some(Version::since(introduced)), Version::parse(name));
        }
    }
}
