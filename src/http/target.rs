//! The target of a request taken apart: what is asked for, and of whom (RFC 9112, section 3.2).

use std::borrow::Cow;

use super::message::Method;

/// A target in origin-form, absolute-form or asterisk-form.
pub(super) struct Target<'a> {
    /// Of an absolute-form target: it wins over the `Host` field.
    pub(super) authority: Option<&'a str>,
    /// As it came but for the parameters of its last segment, with one slash before it.
    pub(super) raw_path: &'a str,
    /// With runs of slashes made one.
    pub(super) path: Cow<'a, str>,
    pub(super) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// `None` if it has no such form.
    pub(super) fn parse(method: Method, target: &'a str) -> Option<Target<'a>> {
        let (authority, path_and_query) = split_authority(method, target)?;
        let without_fragment = path_and_query.split('#').next().unwrap_or_default();
        let (raw_path, query) = match without_fragment.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (without_fragment, None),
        };
        let raw_path = one_leading_slash(without_parameters(raw_path));
        Some(Target {
            authority,
            raw_path,
            path: fold_slashes(raw_path),
            query,
        })
    }
}

/// The authority of an absolute-form target, and the rest of any form.
fn split_authority(method: Method, target: &str) -> Option<(Option<&str>, &str)> {
    if target.starts_with('/') || (method == Method::Options && target == "*") {
        return Some((None, target));
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let path_start = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_start);
    let path = if path.is_empty() { "/" } else { path };
    (!authority.is_empty()).then_some((Some(authority), path))
}

/// Cuts the parameters of the last segment, as imds_mock.py does (reference/imds_mock_py.md, "HTTP").
fn without_parameters(path: &str) -> &str {
    let segment = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[segment..].find(';') {
        Some(at) => &path[..segment + at],
        None => path,
    }
}

/// `//x` is asked by real clients and means `/x` (reference/imds.md, section 1).
fn one_leading_slash(path: &str) -> &str {
    let rest = path.trim_start_matches('/');
    match path.len() - rest.len() {
        0 => path,
        slashes => &path[slashes - 1..],
    }
}

fn fold_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut folded = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !folded.ends_with('/') {
            folded.push(c);
        }
    }
    Cow::Owned(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_taken_apart() {
        for (target, authority, raw_path, path, query) in [
            ("/", None, "/", "/", None),
            (
                "//latest//x/?a=b?c#d",
                None,
                "/latest//x/",
                "/latest/x/",
                Some("a=b?c"),
            ),
            ("/a;b/c;d=e?f", None, "/a;b/c", "/a;b/c", Some("f")),
            ("http://h:1?q", Some("h:1"), "", "", Some("q")),
            ("HTTPS://h", Some("h"), "/", "/", None),
        ] {
            let parsed = Target::parse(Method::Get, target).expect(target);
            assert_eq!(parsed.authority, authority, "{target}");
            assert_eq!(
                (parsed.raw_path, &*parsed.path),
                (raw_path, path),
                "{target}"
            );
            assert_eq!(parsed.query, query, "{target}");
        }
        assert!(Target::parse(Method::Options, "*").is_some());
        for (method, target) in [
            (Method::Get, "*"),
            (Method::Get, "latest"),
            (Method::Get, "h:443"),
            (Method::Get, "ftp://h/"),
            (Method::Get, "http:///x"),
        ] {
            assert!(Target::parse(method, target).is_none(), "{target}");
        }
    }
}
