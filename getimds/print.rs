//! What getimds writes: values on standard output in the form asked for, with the secrets of
//! credentials masked, and complaints on standard error.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

const MASK: &str = "********";
/// Directories whose documents hold credentials (docs/reference/metadata.md, "Credentials
/// documents"), and their secrets.
const SECRET_DIRECTORIES: [&str; 2] = [
    "/latest/meta-data/iam/",
    "/latest/meta-data/identity-credentials/",
];
const SECRET_KEYS: [&str; 2] = ["SecretAccessKey", "Token"];
/// JSON within these limits is laid out for a person; beyond them it stays as it was served.
const MAX_LAID_OUT: usize = 64 * 1024;
const MAX_NESTING: usize = 16;

/// How values are written.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    /// `path: value`, multi-line and JSON values indented below their path.
    Text,
    /// One JSON object, path -> value.
    Json,
    /// The paths alone.
    Paths,
    /// The bytes as served.
    Raw,
    /// The bytes as served, each value's last line ended.
    RawLines,
}

/// The output of one run.
pub struct Printer {
    out: Box<dyn Write>,
    terminal: bool,
    form: Form,
    mask: bool,
    empty: bool,
    failed: bool,
}

impl Printer {
    /// A printer on standard output; `mask` is whether secrets are masked.
    pub fn new(form: Form, mask: bool) -> Printer {
        let stdout = io::stdout().lock();
        let terminal = stdout.is_terminal();
        let out = Box::new(BufWriter::new(stdout));
        Printer {
            out,
            terminal,
            form,
            mask,
            empty: true,
            failed: false,
        }
    }

    /// Whether the form shows values at all.
    pub fn wants_values(&self) -> bool {
        self.form != Form::Paths
    }

    /// Whether anything was complained about.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Writes one path and its value, and lets it be seen.
    pub fn value(&mut self, path: &str, value: &[u8]) -> io::Result<()> {
        let hidden = if self.mask { masked(path, value) } else { None };
        let value = hidden.as_ref().map_or(value, |text| text.as_bytes());
        match self.form {
            Form::Text => self.text(path, value)?,
            Form::Json => {
                let start = if self.empty { "{" } else { "," };
                let value = match str::from_utf8(value) {
                    Ok(text) => json_string(text),
                    Err(_) => format!("{{\"base64\": \"{}\"}}", STANDARD.encode(value)),
                };
                write!(self.out, "{start}\n  {}: {value}", json_string(path))?;
            }
            Form::Paths => writeln!(self.out, "{}", self.shown(path))?,
            Form::Raw => self.out.write_all(value)?,
            Form::RawLines if value.ends_with(b"\n") => self.out.write_all(value)?,
            Form::RawLines => self.out.write_all(&[value, b"\n"].concat())?,
        }
        self.empty = false;
        self.out.flush()
    }

    fn text(&mut self, path: &str, value: &[u8]) -> io::Result<()> {
        let path = self.shown(path);
        let laid_out = str::from_utf8(value).ok().and_then(laid_out);
        let text = visible(laid_out.as_ref().map_or(value, |text| text.as_bytes()));
        match text.lines().collect::<Vec<_>>().as_slice() {
            [] => writeln!(self.out, "{path}:"),
            [line] => writeln!(self.out, "{path}: {line}"),
            lines => writeln!(self.out, "{path}:\n    {}", lines.join("\n    ")),
        }
    }

    /// A path as it may stand on a terminal, which acts on control characters.
    fn shown(&self, path: &str) -> String {
        match self.terminal {
            true => path.as_bytes().escape_ascii().to_string(),
            false => path.to_owned(),
        }
    }

    /// Says on standard error what went wrong with a path.
    pub fn complain(&mut self, path: &str, reason: &dyn fmt::Display) {
        self.failed = true;
        complain(&format_args!(
            "{}: {reason}",
            path.as_bytes().escape_ascii()
        ));
    }

    /// Ends the output.
    pub fn finish(&mut self) -> io::Result<()> {
        match (self.form, self.empty) {
            (Form::Json, true) => self.out.write_all(b"{}\n")?,
            (Form::Json, false) => self.out.write_all(b"\n}\n")?,
            _ => {}
        }
        self.out.flush()
    }
}

/// Writes a line on standard error; when nobody reads there, there is nobody to tell.
pub fn complain(what: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "getimds: {what}");
}

/// A JSON string of ASCII alone, so that a terminal has nothing in it to act on.
fn json_string(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len() + 2);
    for c in serde_json::Value::from(text).to_string().chars() {
        match c {
            ' '..='~' => ascii.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    ascii.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    ascii
}

/// The value as text in which control characters and bytes that are no text show as escapes.
fn visible(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => text.push(c),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The value with its secrets replaced, or `None` where it has none to hide. What is no JSON in a
/// directory of credentials is hidden whole: nobody can say what it holds.
fn masked(path: &str, value: &[u8]) -> Option<String> {
    if value.is_empty()
        || !SECRET_DIRECTORIES
            .iter()
            .any(|prefix| path.starts_with(prefix))
    {
        return None;
    }
    let document = str::from_utf8(value).ok().and_then(without_secrets);
    Some(document.unwrap_or_else(|| MASK.to_owned()))
}

/// The document, byte for byte but for the values of the secret keys; `None` if it is no JSON.
fn without_secrets(json: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let is_secret = |key: &str| {
        SECRET_KEYS
            .iter()
            .any(|name| name.eq_ignore_ascii_case(key))
    };
    let (mut out, mut copied, mut at) = (String::with_capacity(json.len()), 0, 0);
    while let Some(quote) = json[at..].find('"') {
        let start = at + quote;
        let (key, length) = first::<String>(&json[start..])?;
        at = start + length;
        let rest = json[at..].trim_start().strip_prefix(':');
        if let Some(rest) = rest.filter(|_| is_secret(&key)) {
            let value = rest.trim_start();
            let start = json.len() - value.len();
            at = start + first::<IgnoredAny>(value)?.1;
            out.extend([&json[copied..start], "\"", MASK, "\""]);
            copied = at;
        }
    }
    out.push_str(&json[copied..]);
    Some(out)
}

/// The JSON value at the beginning of a text, and its length.
fn first<'a, T: Deserialize<'a>>(json: &'a str) -> Option<(T, usize)> {
    let mut values = Deserializer::from_str(json).into_iter();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// A JSON object or array on lines of its own, order and numbers as served; `None` for all else.
fn laid_out(text: &str) -> Option<String> {
    let json = text.trim_ascii();
    if json.len() > MAX_LAID_OUT || !json.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    for c in json.chars() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        // An empty object or array stays together; everything else begins where its line does.
        let opened = out.ends_with(['{', '[']);
        if out.ends_with(',') || opened != matches!(c, '}' | ']') {
            out.extend(["\n", &"  ".repeat(depth)]);
        }
        match c {
            '{' | '[' if depth == MAX_NESTING => return None,
            '{' | '[' => depth += 1,
            '"' => quoted = true,
            _ => {}
        }
        out.push(c);
        if c == ':' {
            out.push(' ');
        }
    }
    Some(out)
}
