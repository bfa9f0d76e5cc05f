//! The metadata protocol from the client's side: a session token where the server has them, none
//! where it has not, and values by path.

use std::fmt;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::http::{self, Answer};

/// Six hours, the longest a token may live (docs/reference/metadata.md, "Token").
const TOKEN_TTL_SECONDS: u32 = 21600;
/// EC2's tokens have 56 characters.
const MAX_TOKEN: usize = 1024;

/// Why a path has no value.
#[derive(Debug)]
pub enum Error {
    Status(u16, String),
    Exchange(http::Error),
    NotAToken,
    NoToken(Box<Error>),
}

impl Error {
    /// Whether nothing was heard from the server.
    pub fn is_silence(&self) -> bool {
        match self {
            Error::Exchange(error) => error.is_silence(),
            Error::NoToken(error) => error.is_silence(),
            Error::Status(..) | Error::NotAToken => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Status(status, reason) => write!(f, "{status} {}", reason.escape_default()),
            Error::Exchange(error) => error.fmt(f),
            Error::NotAToken => f.write_str("the server gave something else"),
            Error::NoToken(error) => match **error {
                Error::Exchange(http::Error::Connect(..)) => error.fmt(f),
                // EC2's default lets a token travel no further than the instance (section 2).
                Error::Exchange(http::Error::TimedOut) => {
                    write!(f, "no token: {error}; in a container, check the hop limit")
                }
                _ => write!(f, "no token: {error}"),
            },
        }
    }
}

enum Token {
    /// To be asked for before the next value.
    Wanted,
    /// The server has only the protocol's first version.
    Unknown,
    Held(String),
}

/// A session with one metadata service.
pub struct Imds {
    client: http::Client,
    token: Token,
    timeout: Duration,
}

impl Imds {
    /// `timeout` is for one value in all: connection, token, retries and body.
    pub fn new(host: Host, timeout: Duration) -> Imds {
        Imds {
            client: http::Client::new(host),
            token: Token::Wanted,
            timeout,
        }
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the server ever answered.
    pub fn answered(&self) -> bool {
        self.client.answered
    }

    /// The bytes served for a path that begins with a slash.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        self.client.deadline = Instant::now() + self.timeout;
        let mut answer = self.ask(path)?;
        if answer.status == 401 {
            self.token = Token::Wanted;
            answer = self.ask(path)?;
        }
        match answer.status {
            200..300 => Ok(answer.body),
            status => Err(Error::Status(status, answer.reason)),
        }
    }

    fn ask(&mut self, path: &str) -> Result<Answer, Error> {
        if let Token::Wanted = self.token {
            self.token = self
                .new_token()
                .map_err(|error| Error::NoToken(error.into()))?;
        }
        let field = match &self.token {
            Token::Held(token) => format!("X-aws-ec2-metadata-token: {token}\r\n"),
            Token::Wanted | Token::Unknown => String::new(),
        };
        self.client
            .exchange("GET", path, &field)
            .map_err(Error::Exchange)
    }

    fn new_token(&mut self) -> Result<Token, Error> {
        let ttl = format!("X-aws-ec2-metadata-token-ttl-seconds: {TOKEN_TTL_SECONDS}\r\n");
        let fields = ttl + "Content-Length: 0\r\n";
        let answer = self.client.exchange("PUT", "/latest/api/token", &fields);
        let answer = answer.map_err(Error::Exchange)?;
        match answer.status {
            200 => {
                let token = String::from_utf8_lossy(answer.body.trim_ascii()).into_owned();
                // It goes into a header field, where nothing may end the line.
                let legal = token.bytes().all(|b| b.is_ascii_graphic());
                let legal = legal && (1..=MAX_TOKEN).contains(&token.len());
                legal.then_some(Token::Held(token)).ok_or(Error::NotAToken)
            }
            // What servers of the first version say to a PUT, and what SDKs take for it
            // (docs/reference/metadata.md, "What clients do"); 501 is Python's http.server.
            403 | 404 | 405 | 501 => Ok(Token::Unknown),
            status => Err(Error::Status(status, answer.reason)),
        }
    }
}
