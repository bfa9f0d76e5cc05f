//! The promises of the role room, kept against an STS on loopback that hands out sessions of
//! seconds and misbehaves on request.

mod common {
    pub mod sts;
}

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::sts::{FakeSts, Fault, Key, PATIENCE};
use imds_mock::role::{Credentials, Current, FailureCode, Limits, Options, Role, Settings, Spec};

const SECOND: Duration = Duration::from_secs(1);
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
        match self.role.current() {
            Current::Valid(session) => Ok(session.access_key_id().to_owned()),
            Current::Failed(failure) => Err((failure.code, failure.message.clone())),
        }
    }

    fn state(&self) -> &'static str {
        self.role.verbose_status().state
    }
}

fn spec(sts: &FakeSts) -> Spec {
    let settings = Settings {
        arn: ARN.to_owned(),
        default_session_name: "i-1234567890abcdef0".to_owned(),
        external_id: Some("a+b/c:d=e".to_owned()),
        policy: Some("{\"Version\": \"2012-10-17\"}".to_owned()),
        policy_arns: vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()],
        session_tags: vec![("team name".to_owned(), "ä & ö".to_owned())],
        sts_endpoint: Some(sts.url()),
        region: "rack-9".to_owned(),
        ..Settings::default()
    };
    Spec::build(settings).unwrap().0
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
    let lines = Lines::default();
    let mut options = options(&lines);
    change(&mut options);
    let role = Role::start(spec(sts), options).unwrap();
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
                let before = time::OffsetDateTime::now_utc();
                match role.current() {
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

#[test]
fn ten_renewals_never_show_an_expired_empty_or_mixed_credential() {
    let sts = FakeSts::start(SECOND * 2);
    let key = sts.user_key("BOOT");
    let started = start_with(&sts, &key);
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    started.lines.wait_for_nth("renewed: ", 10);
    let (failures, readings) = reader.finish();
    assert_eq!(failures, 0, "of {readings} readings");
    assert!(readings > 100, "only {readings} readings");

    // The first call is signed by the bootstrap credentials, each later one by the session before.
    let signers: Vec<String> = sts.calls().into_iter().map(|call| call.key_id).collect();
    assert_eq!(signers[0], key.id);
    for (n, signer) in signers[1..].iter().enumerate() {
        assert_eq!(*signer, format!("ASIASESSION{n}"));
    }
    // And no more of them than half of the life asks for.
    let calls = sts.calls();
    for pair in calls.windows(2) {
        let between = pair[1].at - pair[0].at;
        assert!(between >= SECOND * 9 / 10, "{between:?}");
    }
}

#[test]
fn sts_is_asked_for_exactly_what_is_configured() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    let line = started.lines.wait_for("assumed: ");
    let asked = sts.calls().remove(0).parameters;
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", ARN),
        ("RoleSessionName", "i-1234567890abcdef0"),
        ("DurationSeconds", "3600"),
        ("ExternalId", "a+b/c:d=e"),
        ("Policy", "{\"Version\": \"2012-10-17\"}"),
        (
            "PolicyArns.member.1.arn",
            "arn:aws:iam::aws:policy/ReadOnlyAccess",
        ),
        ("Tags.member.1.Key", "team name"),
        ("Tags.member.1.Value", "ä & ö"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(asked.len(), 10);
    for part in [
        "role app",
        "session i-1234567890abcdef0",
        "key ASIASESSION0",
        "signed by AKIABOOT",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn before_bootstrap_there_is_a_failure_and_then_the_first_call_is_immediate() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start(&sts, |_| {});
    assert_eq!(started.state(), "waiting");
    assert!(!started.role.status());
    let (code, message) = started.now().unwrap_err();
    assert_eq!(code, FailureCode::Failed);
    assert!(message.contains("/bootstrap/creds"), "{message}");
    let offered = Instant::now();
    started.offer(&sts.temporary_key("TEMP"));
    started.lines.wait_for("assumed: ");
    assert!(offered.elapsed() < SECOND, "{:?}", offered.elapsed());
    assert!(started.role.status());
    assert_eq!(started.state(), "valid");
    let status = started.role.verbose_status();
    assert_eq!(status.access_key_id.as_deref(), Some("ASIASESSION0"));
    assert!(status.expiration.is_some() && status.next_attempt.is_some());
    assert!(status.last_attempt.is_some() && status.last_error.is_none());
}

#[test]
fn an_outage_shorter_than_the_lifetime_is_not_seen_by_readers() {
    let sts = FakeSts::start(SECOND * 4);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    sts.always(Fault::error(503, "ServiceUnavailable"));
    let line = started.lines.wait_for("failing: ");
    assert!(
        line.contains("ServiceUnavailable") && line.contains("next try"),
        "{line}"
    );
    assert_eq!(started.state(), "stale");
    assert!(started.role.status());
    let error = started.role.verbose_status().last_error.unwrap();
    assert_eq!(error.code, "ServiceUnavailable");
    sts.always(Fault::None);
    started.lines.wait_for("recovered: ");
    assert_eq!(started.state(), "valid");
    assert_eq!(reader.finish().0, 0);
}

#[test]
fn in_a_longer_outage_the_session_is_served_to_its_end_and_not_longer() {
    let sts = FakeSts::start(SECOND * 2);
    let key = sts.user_key("BOOT");
    let started = start_with(&sts, &key);
    started.lines.wait_for("assumed: ");
    let Current::Valid(session) = started.role.current() else {
        panic!("nothing is served")
    };
    let reader = Reader::start(&started.role);
    sts.always(Fault::Close);
    // Every reading until the expiry gives the session, every one after it the failure.
    loop {
        let before = time::OffsetDateTime::now_utc();
        let is_valid = matches!(started.role.current(), Current::Valid(_));
        let after = time::OffsetDateTime::now_utc();
        assert!(
            is_valid || after >= session.expires(),
            "withdrawn too early"
        );
        assert!(!is_valid || before < session.expires(), "served too long");
        if !is_valid {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    started.lines.wait_for("expired: ");
    assert_eq!(started.state(), "failed");
    assert!(!started.role.status());
    let (code, message) = started.now().unwrap_err();
    assert_eq!(code, FailureCode::Failed);
    assert!(message.contains("NoAnswer"), "{message}");
    wait_until(|| reader.failures.load(Ordering::SeqCst) > 0);
    sts.always(Fault::None);
    let mended = Instant::now();
    started.lines.wait_for("recovered: ");
    assert!(
        mended.elapsed() < SECOND * 8,
        "as slow as before the expiry"
    );
    assert_eq!(sts.calls().last().unwrap().key_id, key.id);
    let (failures, readings) = reader.finish();
    assert!(failures < readings);
    assert_eq!(started.lines.count("failing: "), 1, "one line a change");
}

#[test]
fn a_hanging_sts_delays_neither_readers_nor_offers_nor_the_stop() {
    let sts = FakeSts::start(SECOND * 2);
    let started = start(&sts, |options| options.limits = Limits::default());
    started.offer(&sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    sts.script([Fault::Hang]);
    sts.wait_for_calls(2);
    let slowest = (0..2000)
        .map(|_| {
            let begin = Instant::now();
            let _ = (
                started.now(),
                started.role.status(),
                started.role.verbose_status(),
            );
            begin.elapsed()
        })
        .max();
    assert!(slowest < Some(Duration::from_millis(200)), "{slowest:?}");
    // The expiry is noticed while the call hangs, and an offer is tried.
    let line = started.lines.wait_for("expired: ");
    assert!(line.contains("STS has not answered yet"), "{line}");
    let (_, message) = started.now().unwrap_err();
    assert!(message.contains("expired at"), "{message}");
    started.offer(&sts.user_key("OTHER"));
    started.lines.wait_for("signed by AKIAOTHER");
    assert!(started.role.status());
    let begin = Instant::now();
    started.role.stop();
    let lines = Arc::downgrade(&started.lines.0);
    drop(started);
    // The thread, and with it the log it was given, is gone although a call still hangs.
    while lines.strong_count() > 0 {
        assert!(begin.elapsed() < SECOND, "the thread lives on");
        thread::yield_now();
    }
}

#[test]
fn a_call_ends_within_its_limit_however_slow_the_answer() {
    let sts = FakeSts::start(SECOND * 60);
    sts.script([Fault::Hang, Fault::Drip]);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    let line = started.lines.wait_for("failing: ");
    assert!(line.contains("no whole answer within 1s"), "{line}");
    started.lines.wait_for("assumed: ");
    let calls = sts.calls();
    assert_eq!(calls.len(), 3);
    for pair in calls.windows(2) {
        let between = pair[1].at - pair[0].at;
        assert!(between < SECOND * 6, "{between:?}");
    }
}

#[test]
fn a_session_that_is_refused_falls_back_to_the_bootstrap_credentials() {
    let codes = ["AccessDenied", "ExpiredToken", "InvalidClientTokenId"];
    side_by_side(codes, |code| {
        let sts = FakeSts::start(SECOND * 2);
        sts.refuse_sessions(Some(code));
        let started = start_with(&sts, &sts.user_key("BOOT"));
        started.lines.wait_for("assumed: ");
        let reader = Reader::start(&started.role);
        let line = started.lines.wait_for_nth("renewed: ", 2);
        assert!(
            line.contains("signed by AKIABOOT because the session was refused"),
            "{line}"
        );
        assert!(line.contains(code), "{line}");
        assert_eq!(reader.finish().0, 0, "{code}");
        assert_eq!(started.lines.count("failing: "), 0, "{code}");
    });
}

#[test]
fn access_denied_is_the_unauthorized_failure_and_is_retried_slowly() {
    let sts = FakeSts::start(SECOND * 60);
    sts.script([Fault::error(403, "AccessDenied")]);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started
        .lines
        .wait_for("failing: AccessDenied: HTTP 403, as the test wanted");
    let (code, message) = started.now().unwrap_err();
    assert_eq!(code, FailureCode::AssumeRoleUnauthorizedAccess);
    assert_eq!(
        message,
        "AssumeRole failed: AccessDenied: HTTP 403, as the test wanted"
    );
    assert_eq!(started.state(), "failed");
    let status = started.role.verbose_status();
    let date = |text: Option<String>| {
        time::OffsetDateTime::parse(
            &text.unwrap(),
            &time::format_description::well_known::Rfc3339,
        )
        .unwrap()
    };
    let wait = date(status.next_attempt) - date(status.last_attempt);
    assert!((59..=61).contains(&wait.whole_seconds()), "{wait}");
    // But what is offered anew is tried at once.
    started.offer(&sts.user_key("OTHER"));
    started.lines.wait_for("assumed: ");
}

#[test]
fn no_hostile_answer_gives_credentials_or_ends_the_renewing() {
    let elsewhere = FakeSts::start(SECOND * 60);
    let redirect = format!("Location: {}/\r\n", elsewhere.url());
    let credentials = "<AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
        <SessionToken>t</SessionToken><Expiration>2001-01-01T00:00:00Z</Expiration>";
    let answer = |inner: &str| {
        format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>{inner}</Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>"
        )
    };
    let plain = |status, body: String| Fault::Answer(status, String::new(), body);
    let huge = format!("<a>{}</a>", "x".repeat(2 * 1024 * 1024));
    side_by_side(
        [
            (Fault::Close, "NoAnswer", "127.0.0.1"),
            (
                plain(200, "<html>hello</html>".into()),
                "UnusableAnswer",
                "neither",
            ),
            (plain(200, "no xml".into()), "UnusableAnswer", "not XML"),
            (plain(200, String::new()), "UnusableAnswer", "not XML"),
            (
                plain(200, answer(&credentials[..60])),
                "UnusableAnswer",
                "not XML",
            ),
            (
                plain(200, answer(&credentials.replace("t</S", "</S"))),
                "UnusableAnswer",
                "SessionToken",
            ),
            (
                plain(200, answer(credentials)),
                "UnusableAnswer",
                "expired at 2001",
            ),
            (
                plain(200, huge),
                "UnusableAnswer",
                "more than 1048576 bytes",
            ),
            (
                plain(502, "<html>bad gateway</html>".into()),
                "UnusableAnswer",
                "HTTP 502",
            ),
            (
                Fault::Answer(307, redirect.clone(), String::new()),
                "UnusableAnswer",
                "redirect",
            ),
            (
                Fault::Answer(302, redirect.clone(), answer(credentials)),
                "UnusableAnswer",
                "redirect",
            ),
            (
                Fault::Answer(200, "Content-Length: 5\r\n".into(), answer(credentials)),
                "NoAnswer",
                "",
            ),
            (
                Fault::Answer(
                    200,
                    "X: ".to_owned() + &"y".repeat(100_000) + "\r\n",
                    answer(credentials),
                ),
                "NoAnswer",
                "",
            ),
            (
                Fault::error(500, "InternalFailure"),
                "InternalFailure",
                "HTTP 500",
            ),
            (Fault::error(400, "Throttling"), "Throttling", "HTTP 400"),
        ],
        |(fault, code, part)| {
            let sts = FakeSts::start(SECOND * 60);
            sts.script([fault]);
            let started = start_with(&sts, &sts.user_key("BOOT"));
            let line = started.lines.wait_for("failing: ");
            assert!(line.contains(code) && line.contains(part), "{line}");
            let line = started.lines.wait_for("assumed: ");
            assert!(line.contains("ASIASESSION0"), "{line}");
            assert_eq!(sts.calls().len(), 2);
        },
    );
    assert_eq!(elsewhere.calls().len(), 0, "a redirect was followed");
}

#[test]
fn the_clock_of_sts_rules_however_wrong_ours_is() {
    side_by_side([-30, 2, 9000], |hours| {
        let offset = time::Duration::hours(hours);
        let sts = FakeSts::start(SECOND * 3);
        sts.set_clock_offset(offset);
        let started = start_with(&sts, &sts.user_key("BOOT"));
        started.lines.wait_for("clock: ");
        started.lines.wait_for("assumed: ");
        assert_eq!(
            started.lines.count("failing: "),
            0,
            "corrected within the first try"
        );
        let correction = started.role.verbose_status().clock_correction_seconds;
        assert!(
            (correction - offset.whole_seconds()).abs() <= 2,
            "{correction}"
        );
        started.lines.wait_for_nth("renewed: ", 2);
        sts.always(Fault::error(500, "InternalFailure"));
        let Current::Valid(session) = started.role.current() else {
            panic!("nothing is served")
        };
        started.lines.wait_for("expired: ");
        // By STS's clock, or at most the two seconds earlier that `Date` leaves open.
        let late = sts.now() - session.expires();
        assert!(
            late > time::Duration::seconds(-2) && late < time::Duration::SECOND,
            "{late}"
        );
    });
}

#[test]
fn a_wish_to_wait_never_pushes_the_next_try_past_the_expiry() {
    let sts = FakeSts::start(SECOND * 3);
    let busy = |headers: &str| Fault::Answer(503, headers.to_owned(), "busy".to_owned());
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    sts.script([
        busy("Retry-After: 3600\r\n"),
        busy("x-amz-retry-after: 600000\r\n"),
    ]);
    started.lines.wait_for("recovered: ");
    assert_eq!(reader.finish().0, 0);
}

#[test]
fn a_wish_to_wait_is_honoured_when_there_is_nothing_to_lose() {
    let sts = FakeSts::start(SECOND * 60);
    sts.script([Fault::Answer(
        429,
        "x-amz-retry-after: 3000\r\n".into(),
        String::new(),
    )]);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    started.lines.wait_for("assumed: ");
    let calls = sts.calls();
    let between = calls[1].at - calls[0].at;
    assert!(between >= SECOND * 3 && between < SECOND * 6, "{between:?}");
}

#[test]
fn an_offer_replaces_what_works_only_when_it_works_itself() {
    let sts = FakeSts::start(SECOND * 60);
    let (first, second) = (sts.user_key("FIRST"), sts.user_key("SECOND"));
    let started = start_with(&sts, &first);
    started.lines.wait_for("assumed: ");
    let stranger = Key {
        id: "AKIASTRANGER".to_owned(),
        ..first.clone()
    };
    started.offer(&stranger);
    let line = started.lines.wait_for("AKIASTRANGER are not taken");
    assert!(line.contains("InvalidClientTokenId"), "{line}");
    assert_eq!(
        started.state(),
        "valid",
        "a refused offer is no failure of what works"
    );
    started.offer(&second);
    started.lines.wait_for("signed by AKIASECOND");
    assert_eq!(started.now().unwrap(), "ASIASESSION1");
}

#[test]
fn an_offer_made_during_an_outage_is_tried_again_until_sts_answers() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start_with(&sts, &sts.user_key("FIRST"));
    started.lines.wait_for("assumed: ");
    sts.script([Fault::Close, Fault::error(500, "InternalFailure")]);
    started.offer(&sts.user_key("SECOND"));
    started.lines.wait_for("AKIASECOND are tried again later");
    assert_eq!(started.state(), "valid");
    started.lines.wait_for("signed by AKIASECOND");
    assert_eq!(sts.calls().len(), 4);
}

#[test]
fn a_flood_of_wrong_offers_stops_neither_renewals_nor_a_right_offer() {
    let sts = FakeSts::start(SECOND * 2);
    let started = start_with(&sts, &sts.user_key("FIRST"));
    started.lines.wait_for("assumed: ");
    let reader = Reader::start(&started.role);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let json = br#"{"AccessKeyId":"AKIASTRANGER","SecretAccessKey":"wrong"}"#;
                started.role.offer(Credentials::parse(json).unwrap());
                thread::sleep(Duration::from_millis(1));
            }
        });
        started.lines.wait_for_nth("renewed: ", 3);
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(reader.finish().0, 0);
    started.offer(&sts.user_key("SECOND"));
    started.lines.wait_for("signed by AKIASECOND");
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

#[test]
fn a_restart_needs_nobody_even_when_the_bootstrap_credentials_have_died() {
    let directory = Directory::new("restart");
    let sts = FakeSts::start(SECOND * 60);
    let key = sts.temporary_key("TEMP");
    let started = start_with_file(&sts, &directory, Some(&key));
    started.lines.wait_for("assumed: ");
    wait_until(|| directory.file().exists());
    let mode = fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(
        fs::read_dir(&directory.0).unwrap().count(),
        1,
        "something is left behind"
    );
    drop(started);

    sts.expire(&key);
    sts.always(Fault::error(503, "ServiceUnavailable"));
    let started = start_with_file(&sts, &directory, None);
    assert_eq!(
        started.now().unwrap(),
        "ASIASESSION0",
        "served before STS says anything"
    );
    started.lines.wait_for("failing: ");
    assert_eq!(started.state(), "stale");
    sts.always(Fault::None);
    started.lines.wait_for("recovered: ");
    assert_eq!(started.now().unwrap(), "ASIASESSION1");
    wait_until(|| {
        fs::read_to_string(directory.file())
            .unwrap()
            .contains("ASIASESSION1")
    });
    drop(started);

    // The session has died too, but there is a new bootstrap credential in the file given at start.
    let session = sts.issued().pop().unwrap();
    sts.expire(&session);
    let started = start_with_file(&sts, &directory, Some(&sts.user_key("NEW")));
    started.lines.wait_for("signed by AKIANEW");
}

#[test]
fn a_clock_set_ahead_during_a_restart_does_not_cost_the_stored_session() {
    let directory = Directory::new("ahead");
    let sts = FakeSts::start(SECOND * 60);
    let key = sts.temporary_key("TEMP");
    sts.set_clock_offset(-time::Duration::hours(2));
    let started = start_with_file(&sts, &directory, Some(&key));
    started.lines.wait_for("assumed: ");
    wait_until(|| directory.file().exists());
    drop(started);

    // By our own clock the session is over, and the bootstrap credentials are too.
    sts.expire(&key);
    let started = start_with_file(&sts, &directory, None);
    assert!(!started.role.status());
    let line = started.lines.wait_for("recovered: ");
    assert!(line.contains("signed by ASIASESSION0"), "{line}");
}

#[test]
fn an_offer_that_may_work_later_makes_a_dead_one_go() {
    let sts = FakeSts::start(SECOND);
    let (first, second) = (sts.temporary_key("FIRST"), sts.user_key("SECOND"));
    let started = start_with(&sts, &first);
    started.lines.wait_for("assumed: ");
    sts.refuse_sessions(Some("AccessDenied"));
    sts.expire(&first);
    started.lines.wait_for("expired: ");
    started.lines.wait_for("failing: ExpiredToken");
    sts.always(Fault::error(503, "ServiceUnavailable"));
    started.offer(&second);
    started.lines.wait_for("failing: ServiceUnavailable");
    let calls = sts.calls().len();
    sts.always(Fault::None);
    started.lines.wait_for("recovered: ");
    for call in &sts.calls()[calls..] {
        assert_eq!(call.key_id, second.id);
    }
}

#[test]
fn bootstrap_credentials_are_stored_only_once_they_have_worked() {
    let directory = Directory::new("unproven");
    let sts = FakeSts::start(SECOND * 60);
    let (key, stranger) = (sts.user_key("BOOT"), sts.user_key("STRANGER"));
    sts.revoke(&stranger);
    let started = start_with_file(&sts, &directory, Some(&stranger));
    started.lines.wait_for("failing: InvalidClientTokenId");
    assert!(!directory.file().exists());
    started.offer(&key);
    started.lines.wait_for("assumed: ");
    wait_until(|| directory.file().exists());
    let stored = fs::read_to_string(directory.file()).unwrap();
    assert!(stored.contains(&key.secret) && !stored.contains(&stranger.secret));
}

#[test]
fn a_state_file_that_is_of_no_use_is_a_warning_and_not_an_end() {
    let sts = FakeSts::start(SECOND * 60);
    let key = sts.user_key("BOOT");
    let other_role = format!("{{\"role_arn\":\"{ARN}x\",\"bootstrap\":null,\"session\":null}}");
    let wrong_type = format!("{{\"role_arn\":\"{ARN}\",\"bootstrap\":\"hush\",\"session\":null}}");
    let no_secret = format!("{{\"role_arn\":\"{ARN}\",\"bootstrap\":{{\"AccessKeyId\":\"A\"}}}}");
    for (text, warning) in [
        ("", "is damaged: not valid JSON at line 1"),
        ("{\"role_arn\":", "is damaged: not valid JSON at line 1"),
        (
            &wrong_type,
            "is damaged: a key is missing or of the wrong type",
        ),
        (&no_secret, "is damaged: SecretAccessKey is missing"),
        (&other_role, "belongs to another role"),
    ] {
        let directory = Directory::new("damaged");
        fs::write(directory.file(), text).unwrap();
        let started = start_with_file(&sts, &directory, Some(&key));
        let line = started.lines.wait_for("state file");
        assert!(line.contains(warning) && !line.contains("hush"), "{line}");
        started.lines.wait_for("assumed: ");
        wait_until(|| {
            fs::read_to_string(directory.file())
                .unwrap()
                .contains(&key.id)
        });
    }
}

#[test]
fn a_state_file_that_cannot_be_written_is_said_once_and_hurts_nobody() {
    let directory = Directory::new("unwritable");
    let sts = FakeSts::start(SECOND);
    let started = start(&sts, |options| {
        options.state_file = Some(directory.0.join("absent").join("state.json"));
    });
    started.offer(&sts.user_key("BOOT"));
    started.lines.wait_for("cannot be written");
    started.lines.wait_for_nth("renewed: ", 2);
    fs::create_dir(directory.0.join("absent")).unwrap();
    started.lines.wait_for("is written again");
    assert_eq!(started.lines.count("cannot be written"), 1);
}

#[test]
fn a_link_put_in_the_way_of_the_state_file_is_not_followed() {
    let directory = Directory::new("link");
    let target = directory.0.join("target");
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, directory.0.join("state.json.tmp")).unwrap();
    let sts = FakeSts::start(SECOND * 60);
    let started = start_with_file(&sts, &directory, Some(&sts.user_key("BOOT")));
    started.lines.wait_for("assumed: ");
    wait_until(|| directory.file().exists());
    assert_eq!(fs::read_to_string(target).unwrap(), "precious");
}

#[test]
fn no_output_ever_has_a_part_of_a_secret() {
    let directory = Directory::new("secrets");
    let sts = FakeSts::start(SECOND);
    let (user, temporary) = (sts.user_key("BOOT"), sts.temporary_key("TEMP"));
    let started = start_with_file(&sts, &directory, Some(&user));
    let mut shown = Vec::new();
    started.lines.wait_for("assumed: ");
    sts.script([Fault::Echo, Fault::Echo]);
    started.lines.wait_for("failing: ");
    shown.push(format!("{:?}", started.role.verbose_status()));
    started.offer(&temporary);
    started.lines.wait_for("recovered: ");
    sts.always(Fault::Echo);
    started.lines.wait_for("expired: ");
    shown.push(serde_json::to_string(&started.role.verbose_status()).unwrap());
    shown.push(started.now().unwrap_err().1);
    shown.extend(started.lines.all());
    assert!(
        shown.iter().any(|text| text.contains("[hidden]")),
        "{shown:#?}"
    );
    let mut keys = sts.issued();
    keys.extend([user, temporary]);
    for key in keys {
        for secret in [Some(key.secret), key.token].into_iter().flatten() {
            for part in secret.as_bytes().windows(8) {
                let part = std::str::from_utf8(part).unwrap();
                let leak = shown.iter().find(|text| text.contains(part));
                assert_eq!(leak, None, "{part} of {secret}");
            }
        }
    }
}

#[test]
fn documents_are_made_once_for_each_change() {
    let sts = FakeSts::start(SECOND * 60);
    let started = start_with(&sts, &sts.user_key("BOOT"));
    let made = AtomicUsize::new(0);
    let read = || match started.role.current() {
        Current::Valid(session) => session.documents(|session| {
            made.fetch_add(1, Ordering::SeqCst);
            session.access_key_id().to_owned()
        }),
        Current::Failed(failure) => failure.documents(|failure| failure.message.clone()),
    };
    started.lines.wait_for("assumed: ");
    assert_eq!(*read(), "ASIASESSION0");
    assert!(Arc::ptr_eq(&read(), &read()));
    assert_eq!(made.load(Ordering::SeqCst), 1);
    started.offer(&sts.user_key("OTHER"));
    started.lines.wait_for("renewed: ");
    assert_eq!(*read(), "ASIASESSION1");
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[test]
fn unusable_root_certificates_are_an_error_at_start() {
    let directory = Directory::new("roots");
    let sts = FakeSts::start(SECOND);
    let empty = directory.0.join("empty.pem");
    fs::write(&empty, "nothing here").unwrap();
    let absent = directory.0.join("absent.pem");
    for (path, part) in [(&empty, "no certificate"), (&absent, "absent.pem")] {
        let options = Options {
            ca_bundle: Some(path.clone()),
            ..options(&Lines::default())
        };
        let error = Role::start(spec(&sts), options).err().unwrap().to_string();
        assert!(
            error.starts_with("AWS_CA_BUNDLE: ") && error.contains(part),
            "{error}"
        );
    }
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
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}
