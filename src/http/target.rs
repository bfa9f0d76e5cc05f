//! The target of a request taken apart: what is asked for, and of whom (RFC 9112, section 3.2).

use std::borrow::Cow;

use super::message::Method;

/// A target in origin-form, absolute-form or asterisk-form.
pub(super) struct Target<'a> {
    /// Of an absolute-form target: it wins over the `Host` field.
    pub(super) authority: Option<&'a str>,
    /// As it came but for the parameters of its last segment, with one slash before it.
    pub(super) raw_path: &'a str,
    /// What it means: escapes decoded once, runs of slashes made one, `.` and `..` resolved.
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
            path: normalized(raw_path),
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

/// Cuts the parameters of the last segment, as imds_mock.py does (docs/reference/imds_mock_py.md,
/// "HTTP").
fn without_parameters(path: &str) -> &str {
    let segment = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[segment..].find(';') {
        Some(at) => &path[..segment + at],
        None => path,
    }
}

/// `//x` is asked by real clients and means `/x` (docs/reference/metadata.md, "Paths").
fn one_leading_slash(path: &str) -> &str {
    let rest = path.trim_start_matches('/');
    match path.len() - rest.len() {
        0 => path,
        slashes => &path[slashes - 1..],
    }
}

/// `path` as EC2 understands it (docs/reference/metadata.md, "Paths"); one that no resource can
/// have is only freed of runs of slashes, and keeps its escapes.
fn normalized(path: &str) -> Cow<'_, str> {
    let mut before = 0;
    let means_itself = path.bytes().all(|byte| {
        let after_slash = std::mem::replace(&mut before, byte) == b'/';
        byte != b'%' && !(after_slash && matches!(byte, b'/' | b'.'))
    });
    if means_itself {
        return Cow::Borrowed(path);
    }
    let decoded = decoded(path);
    let resolves = decoded.is_some();
    let path = decoded.unwrap_or(Cow::Borrowed(path));
    let (first, rest) = match path.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => ("", &*path),
    };
    let mut segments: Vec<&str> = Vec::new();
    let mut is_directory = false;
    for segment in rest.split('/') {
        is_directory = segment.is_empty();
        match segment {
            "" => {}
            "." | ".." if resolves => {
                is_directory = true;
                // Never above the root.
                let parents = segments.len() - usize::from(segment == ".." && !segments.is_empty());
                segments.truncate(parents);
            }
            _ => segments.push(segment),
        }
    }
    let last = if is_directory && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    Cow::Owned(format!("{first}{}{last}", segments.join("/")))
}

/// `path` with its escapes decoded; `None` where one stands for a slash, a control character or
/// something that is no text, which no path can mean.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    let mut parts = path.split('%');
    let first = parts.next().unwrap_or_default();
    if first.len() == path.len() {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = first.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        if byte == b'/' || byte.is_ascii_control() {
            return None;
        }
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(Cow::Owned(text))
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

    #[test]
    fn a_path_means_what_ec2_takes_it_for() {
        for (raw, meant) in [
            ("/", "/"),
            ("/latest/meta-data", "/latest/meta-data"),
            ("/latest/meta-data/", "/latest/meta-data/"),
            ("/latest//meta-data///x", "/latest/meta-data/x"),
            // Escapes, decoded once.
            (
                "/latest/meta-data/%69nstance-id",
                "/latest/meta-data/instance-id",
            ),
            ("/t/a%3Db%40c%25", "/t/a=b@c%"),
            ("/a%2569", "/a%69"),
            ("/%c3%a9", "/\u{e9}"),
            // Dots, also escaped, never above the root.
            (
                "/latest/meta-data/./instance-id",
                "/latest/meta-data/instance-id",
            ),
            ("/latest/meta-data/../user-data", "/latest/user-data"),
            ("/latest/meta-data/%2e%2E/user-data", "/latest/user-data"),
            ("/../../latest/.", "/latest/"),
            ("/a/b/..", "/a/"),
            ("/..", "/"),
            ("/a/.../..b", "/a/.../..b"),
            ("/.hidden", "/.hidden"),
            // What no resource can have.
            ("/a%2fb", "/a%2fb"),
            ("/a%00", "/a%00"),
            ("/a%0A/../b", "/a%0A/../b"),
            ("/a%7f//b", "/a%7f/b"),
            ("/a%c2%85", "/a%c2%85"),
            ("/a%ff", "/a%ff"),
            ("/a%", "/a%"),
            ("/a%4", "/a%4"),
            ("/a%+4", "/a%+4"),
            ("/a%zz", "/a%zz"),
        ] {
            assert_eq!(normalized(raw), meant, "{raw}");
        }
    }
}
