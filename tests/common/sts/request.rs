//! A request to the STS of the tests: read, taken apart, and signed anew for comparison.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use imds_mock::role::sigv4;

use super::Key;

/// A request as it arrived.
pub struct Request {
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    /// The value of that header, whose name is in lower case; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The part of `Authorization` behind `name=`.
    pub fn credential_part(&self, name: &str) -> &str {
        let (_, rest) = self
            .header("authorization")
            .split_once(name)
            .unwrap_or_default();
        rest.trim_start_matches('=')
            .split(',')
            .next()
            .unwrap_or_default()
    }
}

/// What `Authorization` must be for what arrived.
pub fn expected_authorization(request: &Request, key: &Key) -> String {
    let signed: Vec<&str> = request
        .credential_part("SignedHeaders")
        .split(';')
        .collect();
    let headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .filter(|(name, _)| signed.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let region = request.credential_part("Credential").split('/').nth(2);
    let mut line = request.head.split(' ');
    sigv4::authorization(
        &sigv4::Request {
            method: line.next().unwrap_or_default(),
            target: line.next().unwrap_or_default(),
            headers: &headers,
            body: request.body.as_bytes(),
        },
        &sigv4::Scope {
            amz_date: request.header("x-amz-date"),
            region: region.unwrap_or_default(),
            service: "sts",
        },
        &key.id,
        &key.secret,
    )
}

/// Reads one, headers' names made lower case.
pub fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut text = String::new();
        reader
            .read_line(&mut text)
            .map(|_| text.trim_end().to_owned())
    };
    let head = line()?;
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        let Some((name, value)) = text.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        head,
        headers,
        body: String::new(),
    };
    let length = request.header("content-length").parse().unwrap_or(0);
    reader.take(length).read_to_string(&mut request.body)?;
    Ok(request)
}

/// The parameters in a form.
pub fn parse_form(body: &str) -> HashMap<String, String> {
    body.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.extend(u8::from_str_radix(&part[..2], 16));
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).expect("what was encoded is UTF-8")
}

/// The date of `x-amz-date`, to be parsed.
pub fn rfc3339(amz_date: &str) -> String {
    let part = |range| amz_date.get(range).unwrap_or("00");
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4),
        part(4..6),
        part(6..8),
        part(9..11),
        part(11..13),
        part(13..15)
    )
}
