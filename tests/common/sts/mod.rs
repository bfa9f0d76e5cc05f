//! An STS on loopback for tests: knows AssumeRole only, checks signatures, dates and tokens, hands
//! out sessions of seconds, and misbehaves on request.

mod request;

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use super::PATIENCE;
use request::{Request, expected_authorization, parse_form, read_request, rfc3339};

/// How far a request's date may be off.
const TOLERANCE: time::Duration = time::Duration::minutes(5);

/// What goes wrong with a call.
#[derive(Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// No answer, for as long as the server lives or [`FakeSts::release`] is not called.
    Hang,
    /// The connection is closed instead of an answer.
    Close,
    /// One byte of the answer every 50 ms.
    Drip,
    /// Another answer: status, further header lines, body.
    Answer(u16, String, String),
    /// An error that quotes everything secret: the request and what was handed out before.
    Echo,
}

impl Fault {
    /// An error as STS words it.
    pub fn error(status: u16, code: &str) -> Fault {
        Fault::Answer(status, String::new(), error_xml(code, "as the test wanted"))
    }
}

/// A call that was answered or left hanging.
#[derive(Clone, Debug)]
pub struct Seen {
    pub key_id: String,
    pub parameters: HashMap<String, String>,
    pub at: Instant,
}

/// A key and what belongs to it.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
    pub expires: Option<OffsetDateTime>,
}

impl Key {
    /// The JSON of a bootstrap message.
    pub fn json(&self) -> String {
        let token = self.token.as_ref();
        let token = token.map_or(String::new(), |token| format!(",\"Token\":\"{token}\""));
        format!(
            "{{\"AccessKeyId\":\"{}\",\"SecretAccessKey\":\"{}\"{token}}}",
            self.id, self.secret
        )
    }
}

struct State {
    keys: HashMap<String, Key>,
    /// In the order they were made.
    issued: Vec<String>,
    lifetime: Duration,
    clock_offset: time::Duration,
    script: VecDeque<Fault>,
    standing: Fault,
    refuse_sessions: Option<&'static str>,
    calls: Vec<Seen>,
    released: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

/// The server. Stops when dropped.
pub struct FakeSts {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FakeSts {
    /// Starts one whose sessions live for `lifetime`, rounded up to a whole second of its clock.
    pub fn start(lifetime: Duration) -> FakeSts {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                keys: HashMap::new(),
                issued: Vec::new(),
                lifetime,
                clock_offset: time::Duration::ZERO,
                script: VecDeque::new(),
                standing: Fault::None,
                refuse_sessions: None,
                calls: Vec::new(),
                released: false,
            }),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let server = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let server = server.clone();
                // An error is a client that went away.
                thread::spawn(move || server.serve(stream));
            }
        });
        FakeSts { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a long-term key. Its id begins with `AKIA` and the name.
    pub fn user_key(&self, name: &str) -> Key {
        let key = Key {
            id: format!("AKIA{name:0<12}"),
            secret: format!("uZq7/xW+kPd3/{name}/Lm9vTb5RcXr2wHj6GtYs1Ke4"),
            token: None,
            expires: None,
        };
        self.state().keys.insert(key.id.clone(), key.clone());
        key
    }

    /// Makes a temporary key as a person gets it elsewhere.
    pub fn temporary_key(&self, name: &str) -> Key {
        let key = Key {
            id: format!("ASIA{name:0<12}"),
            secret: format!("tGc4/yB+nHs8/{name}/Jf2wKe6QbVm7zAo4DuPf8Sn3"),
            token: Some(format!("tMx1/oA+rDi0/{name}/Uy5zNc8VhLs9gEk3QwTd==")),
            expires: None,
        };
        self.state().keys.insert(key.id.clone(), key.clone());
        key
    }

    /// Forgets a key: whoever signs with it gets `InvalidClientTokenId`.
    pub fn revoke(&self, key: &Key) {
        self.state().keys.remove(&key.id);
    }

    /// Lets a key expire: whoever signs with it gets `ExpiredToken`.
    pub fn expire(&self, key: &Key) {
        if let Some(key) = self.state().keys.get_mut(&key.id) {
            key.expires = Some(OffsetDateTime::UNIX_EPOCH);
        }
    }

    /// Moves its clock against the machine's.
    pub fn set_clock_offset(&self, offset: time::Duration) {
        self.state().clock_offset = offset;
    }

    /// What goes wrong with the next calls, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().script.extend(faults);
    }

    /// What goes wrong with every call that the script says nothing about.
    pub fn always(&self, fault: Fault) {
        self.state().standing = fault;
    }

    /// The error for calls signed by a session it handed out itself.
    pub fn refuse_sessions(&self, code: Option<&'static str>) {
        self.state().refuse_sessions = code;
    }

    /// Ends all hanging, now and later: those calls are closed unanswered.
    pub fn release(&self) {
        self.state().released = true;
        self.shared.changed.notify_all();
    }

    /// Its time.
    pub fn now(&self) -> OffsetDateTime {
        self.state().now()
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Seen> {
        self.state().calls.clone()
    }

    /// The sessions handed out so far.
    pub fn issued(&self) -> Vec<Key> {
        let state = self.state();
        state
            .issued
            .iter()
            .map(|id| state.keys[id].clone())
            .collect()
    }

    /// Waits until there were `count` calls.
    pub fn wait_for_calls(&self, count: usize) {
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |state| state.calls.len() < count)
            .expect("no test thread panics while it holds the state");
        assert!(
            !timeout.timed_out(),
            "{} calls, expected {count}",
            state.calls.len()
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for FakeSts {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.release();
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.clock_offset
    }

    fn fault(&mut self) -> Fault {
        let standing = self.standing.clone();
        self.script.pop_front().unwrap_or(standing)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test thread panics while it holds the state")
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let request = read_request(&stream)?;
        let key_id = request.credential_part("Credential").split('/').next();
        let key_id = key_id.unwrap_or_default().to_owned();
        let (fault, date) = {
            let mut state = self.lock();
            let fault = state.fault();
            state.calls.push(Seen {
                key_id: key_id.clone(),
                parameters: parse_form(&request.body),
                at: Instant::now(),
            });
            (fault, state.now())
        };
        self.changed.notify_all();
        let (status, headers, body) = match &fault {
            Fault::Hang => {
                let state = self.lock();
                drop(self.changed.wait_while(state, |state| !state.released));
                return Ok(());
            }
            Fault::Close => return Ok(()),
            Fault::Answer(status, headers, body) => (*status, headers.clone(), body.clone()),
            Fault::Echo => (403, String::new(), self.echo(&request)),
            Fault::None | Fault::Drip => {
                let (status, body) = match self.assume_role(&request, &key_id) {
                    Ok(body) => (200, body),
                    Err((status, code, message)) => (status, error_xml(code, &message)),
                };
                (status, String::new(), body)
            }
        };
        let date = date
            .format(&Rfc2822)
            .expect("a date")
            .replace("+0000", "GMT");
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\nDate: {date}\r\nContent-Type: text/xml\r\n\
             Content-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
        match fault {
            Fault::Drip => answer.bytes().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(50));
                stream.write_all(&[byte])
            }),
            _ => stream.write_all(answer.as_bytes()),
        }
    }

    /// Checks the request as STS does and makes a session.
    fn assume_role(
        &self,
        request: &Request,
        key_id: &str,
    ) -> Result<String, (u16, &'static str, String)> {
        let mut state = self.lock();
        let now = state.now();
        let wrong = |code, message: &str| Err((403, code, message.to_owned()));
        let Some(key) = state.keys.get(key_id).cloned() else {
            return wrong("InvalidClientTokenId", "The security token is invalid.");
        };
        if request.header("x-amz-security-token") != key.token.as_deref().unwrap_or_default() {
            return wrong("InvalidClientTokenId", "The token is not the key's.");
        }
        let amz_date = request.header("x-amz-date");
        let dated = OffsetDateTime::parse(&rfc3339(amz_date), &Rfc3339).expect("a date");
        if (dated - now).abs() > TOLERANCE {
            let message = format!("Signature not yet current or expired: {amz_date}");
            return wrong("SignatureDoesNotMatch", &message);
        }
        if expected_authorization(request, &key) != request.header("authorization") {
            return wrong("SignatureDoesNotMatch", "The signature does not match.");
        }
        if key.expires.is_some_and(|expires| expires <= now) {
            return wrong("ExpiredToken", "The security token is expired.");
        }
        if let Some(code) = state
            .refuse_sessions
            .filter(|_| state.issued.contains(&key.id))
        {
            return wrong(code, "as the test wanted");
        }
        let n = state.issued.len();
        let expires = now + state.lifetime + time::Duration::nanoseconds(999_999_999);
        let session = Key {
            id: format!("ASIASESSION{n}"),
            secret: format!("sWh3/eS+jTg6/{n}/Bk7qXa9LfRn2vMc5YiOp0Ud6Wz"),
            token: Some(format!("sCv2/lO<pYf5/{n}/{}==", "Rn8uIm4Z+".repeat(90))),
            expires: Some(expires.replace_nanosecond(0).expect("0 is a nanosecond")),
        };
        let (token, expires) = (session.token.clone(), session.expires);
        let body = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
             <AssumeRoleResult>\n<Credentials><AccessKeyId>{}</AccessKeyId>\
             <SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
             <Expiration>{}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
            session.id,
            session.secret,
            token.unwrap_or_default().replace('<', "&lt;"),
            expires
                .and_then(|at| at.format(&Rfc3339).ok())
                .unwrap_or_default(),
        );
        state.issued.push(session.id.clone());
        state.keys.insert(session.id.clone(), session);
        Ok(body)
    }

    fn echo(&self, request: &Request) -> String {
        let state = self.lock();
        let mut message = "You said, and I said:\n".to_owned();
        for key in state.keys.values() {
            let token = key.token.as_deref().unwrap_or_default();
            message.push_str(&format!("{} {token}\n", key.secret));
        }
        for (name, value) in &request.headers {
            message.push_str(&format!("{name}:{value}\n"));
        }
        error_xml("SignatureDoesNotMatch", &message.replace('<', "&lt;"))
    }
}

fn error_xml(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n <Error>\n  \
         <Type>Sender</Type>\n  <Code>{code}</Code>\n  <Message>{message}</Message>\n </Error>\n \
         <RequestId>0</RequestId>\n</ErrorResponse>"
    )
}
