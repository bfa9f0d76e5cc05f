//! Where STS is: the regional endpoint of each partition (docs/reference/sts.md, "Endpoint"), or
//! the one a user names.

use std::net::IpAddr;

use ureq::http::Uri;

use crate::region::{Partition, partition_of_aws_region};

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// What is connected to.
    pub(super) url: String,
    /// The value of the header `Host`.
    pub(super) host: String,
    /// The path in the request line.
    pub(super) path: String,
    pub(super) is_loopback: bool,
    pub(super) is_encrypted: bool,
}

/// Why a URL cannot be an endpoint; completes "expected".
pub(super) const EXPECTED_URL: &str = "an http:// or https:// URL with a host and no user name, \
     query or fragment, its path made of letters, digits and -_.~/";

impl Endpoint {
    /// The regional endpoint and its partition; `None` for a region where STS cannot be.
    pub(super) fn regional(region: &str) -> Option<(Endpoint, &'static str)> {
        let Partition { name, domain } = partition_of_aws_region(region)?;
        let endpoint = Endpoint::parse(&format!("https://sts.{region}.{domain}/"))?;
        Some((endpoint, name))
    }

    /// The endpoint a user named; `None` unless it is [`EXPECTED_URL`].
    pub(super) fn parse(url: &str) -> Option<Endpoint> {
        let uri: Uri = url.parse().ok()?;
        let (scheme, default_port) = match uri.scheme_str()? {
            "https" => ("https", 443),
            "http" => ("http", 80),
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        let name = uri.host()?.to_ascii_lowercase();
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            // A colon with nothing usable behind it.
            None if authority.len() != name.len() => return None,
            None => default_port,
        };
        // What is signed is normalised and encoded, once or twice depending on the service; these
        // paths come out of it as they are.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
        let mut inner = uri.path().trim_matches('/').split('/');
        let is_normal = uri.path() == "/" || !inner.any(|part| matches!(part, "" | "." | ".."));
        let is_url = !name.is_empty()
            && port != 0
            && !authority.contains('@')
            && uri.query().is_none()
            && !url.contains('#')
            && uri.path().bytes().all(is_plain)
            && is_normal;
        if !is_url {
            return None;
        }
        // The port is left out where it is the default, as clients send it.
        let host = match port == default_port {
            true => name.clone(),
            false => format!("{name}:{port}"),
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        Some(Endpoint {
            url: format!("{scheme}://{host}{}", uri.path()),
            path: uri.path().to_owned(),
            is_loopback: name == "localhost"
                || name.ends_with(".localhost")
                || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
            is_encrypted: scheme == "https",
            host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_regional_endpoint() {
        for (region, host, partition) in [
            ("us-east-1", "sts.us-east-1.amazonaws.com", "aws"),
            ("ap-southeast-7", "sts.ap-southeast-7.amazonaws.com", "aws"),
            ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn", "aws-cn"),
            (
                "us-gov-west-1",
                "sts.us-gov-west-1.amazonaws.com",
                "aws-us-gov",
            ),
            ("us-iso-east-1", "sts.us-iso-east-1.c2s.ic.gov", "aws-iso"),
            (
                "us-isob-east-1",
                "sts.us-isob-east-1.sc2s.sgov.gov",
                "aws-iso-b",
            ),
            (
                "eu-isoe-west-1",
                "sts.eu-isoe-west-1.cloud.adc-e.uk",
                "aws-iso-e",
            ),
            (
                "us-isof-south-1",
                "sts.us-isof-south-1.csp.hci.ic.gov",
                "aws-iso-f",
            ),
            (
                "eusc-de-east-1",
                "sts.eusc-de-east-1.amazonaws.eu",
                "aws-eusc",
            ),
        ] {
            let (endpoint, found) = Endpoint::regional(region).unwrap();
            assert_eq!((endpoint.host.as_str(), found), (host, partition));
            assert_eq!(endpoint.url, format!("https://{host}/"));
        }
        for region in [
            "",
            "local",
            "us-east",
            "us-east-1a",
            "xx-east-1",
            "us-east-1.evil",
            "US-EAST-1",
        ] {
            assert!(Endpoint::regional(region).is_none(), "{region}");
        }
    }

    #[test]
    fn a_named_endpoint_says_what_is_connected_and_what_is_signed() {
        for (url, connected, host, path, is_loopback) in [
            (
                "http://127.0.0.1:5000",
                "http://127.0.0.1:5000/",
                "127.0.0.1:5000",
                "/",
                true,
            ),
            (
                "http://[::1]:5000/",
                "http://[::1]:5000/",
                "[::1]:5000",
                "/",
                true,
            ),
            (
                "http://LocalHost/",
                "http://localhost/",
                "localhost",
                "/",
                true,
            ),
            (
                "HTTPS://STS.example:443/a/b",
                "https://sts.example/a/b",
                "sts.example",
                "/a/b",
                false,
            ),
            (
                "https://sts.example:80",
                "https://sts.example:80/",
                "sts.example:80",
                "/",
                false,
            ),
        ] {
            let endpoint = Endpoint::parse(url).unwrap_or_else(|| panic!("{url}"));
            assert_eq!(endpoint.url, connected);
            assert_eq!(
                (endpoint.host.as_str(), endpoint.path.as_str()),
                (host, path)
            );
            assert_eq!(endpoint.is_loopback, is_loopback, "{url}");
        }
        for url in [
            "",
            "sts.example",
            "ftp://sts.example/",
            "http://",
            "http:///path",
            "http://user@sts.example/",
            "http://sts.example/?query",
            "http://sts.example/#fragment",
            "http://sts.example/a%20b",
            "http://sts.example//",
            "http://sts.example/a//b",
            "http://sts.example/a/../b",
            "http://sts.example:0/",
            "http://sts.example:70000/",
            "http://sts example/",
        ] {
            assert_eq!(Endpoint::parse(url), None, "{url}");
        }
    }
}
