//! The promises of the role room, kept against an STS on loopback that hands out sessions of
//! seconds and misbehaves on request.

mod answers;
mod life;
mod offers;
mod restart;
mod v1;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::machine::timed;
use crate::common::sts::{FakeSts, Fault, Key};
use crate::common::{PATIENCE, SECOND};
use imds_mock::date::Date;
use imds_mock::role::{
    Credentials, Current, FailureCode, ForV1, Limits, Options, Phase, Role, RoleDelivery, Settings,
    Source, VerboseStatus,
};

const ARN: &str = "arn:aws:iam::123456789012:role/path/app";

/// The lines a role logged, and a way to wait for one.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn push(&self, line: &str) {
        self.0.0.lock().unwrap().push(line.to_owned());
        self.0.1.notify_all();
    }

    fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    fn count(&self, part: &str) -> usize {
        self.all().iter().filter(|line| line.contains(part)).count()
    }

    /// Waits for the `n`-th line that has `part` in it.
    fn wait_for_nth(&self, part: &str, n: usize) -> String {
        let nth = |lines: &[String]| {
            lines
                .iter()
                .filter(|l| l.contains(part))
                .nth(n - 1)
                .cloned()
        };
        let (lines, _) = self
            .0
            .1
            .wait_timeout_while(self.0.0.lock().unwrap(), PATIENCE, |lines| {
                nth(lines).is_none()
            })
            .unwrap();
        nth(&lines).unwrap_or_else(|| panic!("no {n}. line with {part:?} in {:#?}", *lines))
    }

    fn wait_for(&self, part: &str) -> String {
        self.wait_for_nth(part, 1)
    }
}

struct Started {
    role: Arc<Role>,
    lines: Lines,
}

impl Started {
    fn offer(&self, key: &Key) {
        self.role
            .offer(Credentials::parse(key.json().as_bytes()).unwrap());
    }

    /// The key id being served, or the failure's code and message.
    fn now(&self) -> Result<String, (FailureCode, String)> {
        self.now_by(RoleDelivery::V2)
    }

    fn now_by(&self, delivery: RoleDelivery) -> Result<String, (FailureCode, String)> {
        match self.role.current(Date::now(), delivery) {
            Current::Valid(session) => Ok(session.access_key_id().to_owned()),
            Current::Failed(failure) => Err((failure.code, failure.message.clone())),
        }
    }

    fn is_good(&self) -> bool {
        self.role.is_good(Date::now())
    }

    fn verbose(&self) -> VerboseStatus {
        self.role.verbose_status().expect("it is a role of STS")
    }
}

fn role(sts: &FakeSts, v1: ForV1) -> Arc<Role> {
    let settings = Settings {
        arn: ARN.to_owned(),
        default_session_name: "i-1234567890abcdef0".to_owned(),
        external_id: Some("a+b/c:d=e".to_owned()),
        policy: Some("{\"Version\": \"2012-10-17\"}".to_owned()),
        policy_arns: vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()],
        session_tags: vec![("team name".to_owned(), "ä & ö".to_owned())],
        sts_endpoint: Some(sts.url()),
        region: "rack-9".to_owned(),
        v1,
        ..Settings::default()
    };
    Role::new(Source::sts(settings).unwrap().0, Date::now())
}

fn options(lines: &Lines) -> Options {
    let lines = lines.clone();
    Options {
        bootstrap: None,
        state_file: None,
        ca_bundle: None,
        limits: Limits {
            connect: SECOND,
            call: SECOND,
            ..Limits::default()
        },
        log: Box::new(move |line| lines.push(line)),
    }
}

fn start(sts: &FakeSts, change: impl FnOnce(&mut Options)) -> Started {
    start_for(sts, ForV1::Same, change)
}

fn start_for(sts: &FakeSts, v1: ForV1, change: impl FnOnce(&mut Options)) -> Started {
    let lines = Lines::default();
    let mut options = options(&lines);
    change(&mut options);
    let role = role(sts, v1);
    role.start(options).unwrap();
    Started { role, lines }
}

fn start_with(sts: &FakeSts, key: &Key) -> Started {
    let bootstrap = Credentials::parse(key.json().as_bytes()).unwrap();
    start(sts, |options| options.bootstrap = Some(bootstrap))
}

/// A reader at 50 Hz that fails the test when it sees something it must not.
struct Reader {
    stop: Arc<AtomicBool>,
    failures: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

impl Reader {
    fn start(role: &Arc<Role>) -> Reader {
        let (stop, failures) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (role, stopped, failed) = (role.clone(), stop.clone(), failures.clone());
        let thread = thread::spawn(move || {
            let mut readings = 0;
            while !stopped.load(Ordering::SeqCst) {
                let before = Date::now();
                match role.current(before, RoleDelivery::V2) {
                    Current::Valid(session) => {
                        let n = session.access_key_id().strip_prefix("ASIASESSION").unwrap();
                        let mark = format!("/{n}/");
                        assert!(
                            session.secret_access_key().contains(&mark),
                            "a mixed secret"
                        );
                        assert!(session.token().contains(&mark), "a mixed token");
                        assert!(session.expires() > before, "an expired session");
                        assert!(session.last_updated() < session.expires());
                    }
                    Current::Failed(_) => {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
                readings += 1;
                thread::sleep(Duration::from_millis(20));
            }
            readings
        });
        Reader {
            stop,
            failures,
            thread,
        }
    }

    /// Returns how many readings gave a failure, of how many.
    fn finish(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let readings = self.thread.join().expect("a reader saw what it must not");
        (self.failures.load(Ordering::SeqCst), readings)
    }
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path =
            std::env::temp_dir().join(format!("imds_mock-role-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start_with_file(sts: &FakeSts, directory: &Directory, key: Option<&Key>) -> Started {
    let bootstrap = key.map(|key| Credentials::parse(key.json().as_bytes()).unwrap());
    start(sts, |options| {
        options.bootstrap = bootstrap;
        options.state_file = Some(directory.file());
    })
}

/// Runs the same test for each case, all at once.
fn side_by_side<C: Send>(cases: impl IntoIterator<Item = C>, test: impl Fn(C) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| test(case));
        }
    });
}

/// Waits for what has no line of its own.
fn wait_until(condition: impl Fn() -> bool) {
    crate::common::wait_until("it comes", condition);
}
