//! The state file: the bootstrap credentials that have worked and the live sessions, so that a
//! restart needs nobody. Ours alone to write, whole or not at all, readable by us only.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::arn::RoleArn;
use super::secret::{BadCredentials, Credentials, Fields, Secret};
use super::session::Session;
use crate::date::Date;

/// What a restart finds.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) bootstrap: Option<Arc<Credentials>>,
    pub(super) session: Option<Arc<Session>>,
    /// That for version 1, where it has its own.
    pub(super) v1_session: Option<Arc<Session>>,
}

/// Why a state file is of no use.
#[derive(Debug)]
pub(super) enum BadState {
    Unreadable(io::Error),
    /// Not what we write; perhaps edited, perhaps cut.
    Damaged(BadCredentials),
    BadDate(String),
    OtherRole(String),
}

impl fmt::Display for BadState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unreadable(e) => write!(f, "cannot be read: {e}"),
            Self::Damaged(BadCredentials::NotAnObject) => {
                f.write_str("is damaged: a key is missing or of the wrong type")
            }
            Self::Damaged(e) => write!(f, "is damaged: {e}"),
            Self::BadDate(key) => write!(f, "is damaged: {key} is not a date that can be shown"),
            Self::OtherRole(arn) => write!(f, "belongs to another role, {arn:?}"),
        }
    }
}

/// The file's form; credentials as in a bootstrap message.
#[derive(Deserialize)]
struct Read {
    role_arn: String,
    bootstrap: Option<Fields>,
    session: Option<SessionRead>,
    v1_session: Option<SessionRead>,
}

#[derive(Deserialize)]
struct SessionRead {
    credentials: Fields,
    last_updated: String,
    expiration: String,
}

impl SessionRead {
    /// The session, which stands at `key`.
    fn session(self, key: &str) -> Result<Arc<Session>, BadState> {
        let date = |name, text: &str| {
            Date::parse(text).ok_or_else(|| BadState::BadDate(format!("{key}.{name}")))
        };
        Ok(Arc::new(Session::new(
            self.credentials.credentials().map_err(BadState::Damaged)?,
            date("expiration", &self.expiration)?.truncate_to_second(),
            date("last_updated", &self.last_updated)?,
        )))
    }
}

/// The same, for writing without copies of what is secret.
#[derive(Serialize)]
struct Written<'a> {
    role_arn: &'a str,
    bootstrap: Option<Keys<'a>>,
    session: Option<SessionWritten<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v1_session: Option<SessionWritten<'a>>,
}

#[derive(Serialize)]
struct SessionWritten<'a> {
    credentials: Keys<'a>,
    last_updated: String,
    expiration: String,
}

impl<'a> SessionWritten<'a> {
    fn of(session: &'a Session) -> SessionWritten<'a> {
        SessionWritten {
            credentials: Keys::of(&session.credentials),
            last_updated: session.last_updated.to_string(),
            expiration: session.expires.to_string(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Keys<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: Option<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(credentials: &'a Credentials) -> Keys<'a> {
        Keys {
            access_key_id: &credentials.access_key_id,
            secret_access_key: credentials.secret_access_key.expose(),
            token: credentials.token.as_ref().map(Secret::expose),
        }
    }
}

/// A state file of one role.
pub(super) struct Store {
    path: PathBuf,
    arn: RoleArn,
}

impl Store {
    pub(super) fn new(path: PathBuf, arn: RoleArn) -> Store {
        Store { path, arn }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was stored; nothing if there is no file yet.
    pub(super) fn load(&self) -> Result<Stored, BadState> {
        let text = match fs::read(&self.path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
            Err(e) => return Err(BadState::Unreadable(e)),
        };
        let read: Read = serde_json::from_slice(&text).map_err(|e| BadState::Damaged(e.into()))?;
        if read.role_arn != self.arn.as_str() {
            return Err(BadState::OtherRole(read.role_arn));
        }
        let bootstrap = read.bootstrap.map(Fields::credentials).transpose();
        Ok(Stored {
            bootstrap: bootstrap.map_err(BadState::Damaged)?.map(Arc::new),
            session: read.session.map(|of| of.session("session")).transpose()?,
            v1_session: (read.v1_session.map(|of| of.session("v1_session"))).transpose()?,
        })
    }

    /// Replaces the file at once: whoever reads it, also after a crash, finds the old or the new.
    pub(super) fn save(&self, stored: &Stored) -> io::Result<()> {
        let written = Written {
            role_arn: self.arn.as_str(),
            bootstrap: stored.bootstrap.as_deref().map(Keys::of),
            session: stored.session.as_deref().map(SessionWritten::of),
            v1_session: stored.v1_session.as_deref().map(SessionWritten::of),
        };
        // Room for three tokens, so that no secret is left behind by growing.
        let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024));
        serde_json::to_writer_pretty(&mut *text, &written)?;
        text.push(b'\n');
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        self.write(&temporary, &text).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    fn write(&self, temporary: &Path, text: &[u8]) -> io::Result<()> {
        // Left by a process that was killed here. What is made new below cannot be a link.
        match fs::remove_file(temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(temporary, &self.path)?;
        // The rename survives a power loss only once the directory is written, which not every
        // file system can do on demand.
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Ok(())
    }
}
