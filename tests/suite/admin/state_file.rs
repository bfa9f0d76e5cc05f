//! `--state-file`: after a restart nobody has to do anything.

use crate::common::Mock;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::{HOUR, SECOND, start, wait_until, with_role};
use crate::common::sts::{FakeSts, Fault};

/// A directory of the test's own, with a state file in it one day.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("state-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&path).expect("cargo made the one above");
        Directory(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn start(&self, sts: &FakeSts) -> Mock {
        start(sts, &["--state-file", self.file().to_str().expect("UTF-8")])
    }

    /// What is in the file, once there is one.
    fn read(&self) -> Value {
        wait_until("a state file is there", || self.file().exists());
        let text = fs::read(self.file()).expect("it is ours");
        serde_json::from_slice(&text).expect("JSON, whole at every moment")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn it_is_ours_alone_and_written_only_once_the_credentials_have_worked() {
    let directory = Directory::new();
    let sts = FakeSts::start(HOUR);
    sts.script([Fault::error(503, "ServiceUnavailable")]);
    let daemon = directory.start(&sts);
    let key = sts.user_key("BOOT");
    daemon.bootstrap(&key);
    daemon.wait_for("failing: ServiceUnavailable");
    assert!(!directory.file().exists(), "written before it had worked");
    daemon.assume_with(&key);
    let state = directory.read();
    assert_eq!(state["role_arn"], super::ARN);
    assert_eq!(state["bootstrap"]["AccessKeyId"], "AKIABOOT00000000");
    let session = &state["session"]["credentials"]["AccessKeyId"];
    assert_eq!(*session, daemon.served());
    let metadata = fs::metadata(directory.file()).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    // Whatever the umask and the mode of one that is there already.
    let loose = fs::Permissions::from_mode(0o666);
    fs::set_permissions(directory.file(), loose).expect("it is ours");
    daemon.assume_with(&sts.user_key("NEXT"));
    wait_until("it is written anew", || {
        directory.read()["bootstrap"]["AccessKeyId"] == "AKIANEXT00000000"
    });
    let again = fs::metadata(directory.file()).expect("it is there");
    assert_eq!(again.permissions().mode() & 0o7777, 0o600);
    assert_ne!(again.ino(), metadata.ino(), "replaced, not written over");
    let names = fs::read_dir(&directory.0).expect("ours").count();
    assert_eq!(names, 1, "nothing is left beside it");
}

#[test]
fn a_restart_serves_at_once_what_still_lives_and_renews_it() {
    let directory = Directory::new();
    let sts = FakeSts::start(HOUR);
    let daemon = directory.start(&sts);
    daemon.assume_with(&sts.user_key("BOOT"));
    let document = daemon.document();
    directory.read();
    drop(daemon);

    // Not even STS is needed at first.
    sts.always(Fault::Hang);
    let daemon = directory.start(&sts);
    assert!(daemon.status());
    assert_eq!(daemon.document(), document);
    daemon.wait_for("restored from ");
    sts.wait_for_calls(2);
    assert_eq!(sts.calls()[1].key_id, "ASIASESSION0");
}

#[test]
fn a_restart_needs_nobody_though_the_bootstrap_credentials_have_died() {
    let directory = Directory::new();
    let sts = FakeSts::start(HOUR);
    let key = sts.temporary_key("BOOT");
    let daemon = directory.start(&sts);
    daemon.assume_with(&key);
    directory.read();
    drop(daemon);

    sts.expire(&key);
    let daemon = directory.start(&sts);
    let line = daemon.wait_for("renewed: ");
    assert!(line.contains("signed by ASIASESSION0"), "{line}");
    assert!(daemon.status());
    assert_eq!(daemon.served(), "ASIASESSION1");
}

#[test]
fn a_restart_after_a_long_time_uses_the_bootstrap_credentials() {
    let directory = Directory::new();
    let sts = FakeSts::start(SECOND * 2);
    let daemon = directory.start(&sts);
    daemon.assume_with(&sts.user_key("BOOT"));
    directory.read();
    // Killed rather than stopped: nothing is written in the end.
    drop(daemon);
    let issued = sts.issued();
    let last = issued.last().and_then(|key| key.expires);
    let over = last.expect("sessions expire");
    wait_until("the last session is over", || sts.now() > over);

    let calls = sts.calls().len();
    let daemon = directory.start(&sts);
    daemon.wait_for("signed by AKIABOOT");
    sts.wait_for_calls(calls + 1);
    assert_eq!(sts.calls()[calls].key_id, "AKIABOOT00000000");
    assert!(daemon.status());
}

#[test]
fn a_file_of_no_use_is_said_and_then_replaced() {
    let sts = FakeSts::start(HOUR);
    let other = "{\"role_arn\": \"arn:aws:iam::123456789012:role/other\"}";
    let cut = "{\"role_arn\": \"arn:aws:iam::123456789012:role/path/app\", \"boot";
    let wrong = "{\"role_arn\": \"arn:aws:iam::123456789012:role/path/app\", \
                 \"bootstrap\": {\"AccessKeyId\": \"AKIAHUSH\", \"SecretAccessKey\": 4711}}";
    for (content, said) in [
        (&b""[..], "damaged"),
        (cut.as_bytes(), "damaged"),
        (b"\xff\x00", "damaged"),
        (b"[]", "damaged"),
        (b"hush-hush", "damaged"),
        (wrong.as_bytes(), "SecretAccessKey"),
        (other.as_bytes(), "role/other"),
    ] {
        let directory = Directory::new();
        fs::write(directory.file(), content).expect("a new file");
        let daemon = directory.start(&sts);
        let line = daemon.wait_for("starting without it");
        for part in ["state.json", said] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("hush") && !line.contains("4711"), "{line}");
        assert!(!daemon.status());
        daemon.assume_with(&sts.user_key("BOOT"));
        wait_until("it is written", || {
            fs::read(directory.file()).is_ok_and(|now| now != content)
        });
        assert_eq!(directory.read()["role_arn"], super::ARN);
    }
}

#[test]
fn one_that_cannot_be_written_is_said_and_hurts_nobody() {
    let sts = FakeSts::start(HOUR);
    let path = "/no/such/directory/state.json";
    let daemon = start(&sts, &["--state-file", path]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let line = daemon.wait_for("cannot be written");
    assert!(line.contains(path), "{line}");
    assert!(daemon.status());
}

#[test]
fn a_posted_credential_outlives_the_bootstrap_file() {
    let directory = Directory::new();
    let sts = FakeSts::start(HOUR);
    let old = sts.user_key("OLD");
    let file = crate::common::TempFile::new(old.json());
    let arguments = [
        "--state-file",
        directory.file().to_str().expect("UTF-8"),
        "--bootstrap-file",
        file.path().to_str().expect("UTF-8"),
    ]
    .map(str::to_owned);
    let arguments = arguments.each_ref().map(String::as_str);
    let daemon = Mock::with_admin(&with_role(&sts), &arguments);
    daemon.wait_for("signed by AKIAOLD");
    daemon.assume_with(&sts.user_key("NEW"));
    wait_until("it is remembered", || {
        directory.read()["bootstrap"]["AccessKeyId"] == "AKIANEW000000000"
    });
    drop(daemon);
    // The one in the file has been withdrawn since.
    sts.revoke(&old);
    let daemon = Mock::with_admin(&with_role(&sts), &arguments);
    daemon.wait_for(&format!("{} are not taken", old.id));
    assert!(daemon.status());
    assert_eq!(
        directory.read()["bootstrap"]["AccessKeyId"],
        "AKIANEW000000000"
    );
}

#[test]
fn told_to_stop_it_first_remembers_what_it_serves() {
    // The writing has to lose a race for this to fail, so it runs more than once.
    for _ in 0..10 {
        let directory = Directory::new();
        let sts = FakeSts::start(HOUR);
        let daemon = directory.start(&sts);
        daemon.bootstrap(&sts.user_key("BOOT"));
        daemon.wait_for("assumed: ");
        let (status, _, stderr) = daemon.stop("TERM");
        assert!(status.success(), "{stderr}");
        assert!(directory.file().exists(), "{stderr}");
        assert_eq!(
            directory.read()["bootstrap"]["AccessKeyId"],
            "AKIABOOT00000000"
        );
    }
}
