//! `--user`: what is left of root in the process, what it can still do as that user, and what it
//! warns of. Root alone can show most of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::sts::FakeSts;
use crate::common::{Mock, imds_mock, run_any, skipped, wait_until};
use nix::unistd::{Gid, Group, User, geteuid, setgroups};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:iam::123456789012:role/app";

/// Whether only root can show it, and we are not.
fn needs_root() -> bool {
    let missing = !geteuid().is_root();
    if missing {
        skipped("only root can become somebody else");
    }
    missing
}

fn nobody() -> User {
    let user = User::from_name("nobody").expect("the user database can be read");
    user.expect("every system has this user")
}

/// A directory that every user can reach, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("imds_mock-privileges-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new one");
        let made = Directory(path);
        made.allow("", 0o755);
        made
    }

    fn path(&self, name: &str) -> String {
        let path = self.0.join(name);
        path.to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        fs::write(self.path(name), content).expect("it is ours");
        self.allow(name, mode);
        self.path(name)
    }

    fn allow(&self, name: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.path(name), mode).expect("it is ours");
    }

    /// A directory in it that belongs to nobody alone.
    fn of_nobody(&self, name: &str) -> String {
        let path = self.path(name);
        fs::create_dir(&path).expect("a new one");
        self.allow(name, 0o700);
        let nobody = nobody();
        chown(&path, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).expect("root may");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The daemon on free ports of loopback with these arguments.
fn command(arguments: &[&str]) -> Command {
    let mut command = imds_mock();
    command.args(["--port", "0", "--admin-host", "127.0.0.1"]);
    command.args(["--admin-port", "0"]).args(arguments);
    command
}

fn start(arguments: &[&str]) -> Mock {
    Mock::spawn(command(arguments), 2, None)
}

/// What the system says of a process, or of a thread, by name.
fn status_of(task: &Path) -> impl Fn(&str) -> Vec<String> + use<> {
    let text = fs::read_to_string(task.join("status")).expect("our own child");
    move |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("{name}:")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        line.split_whitespace().map(str::to_owned).collect()
    }
}

#[test]
fn nothing_of_root_is_left_in_any_thread() {
    if needs_root() {
        return;
    }
    // What a login or a service manager may have given us.
    let groups = [0, 1, 2, 3, 4].map(Gid::from_raw);
    setgroups(&groups).expect("root may");
    let daemon_group = Group::from_name("daemon").expect("the database can be read");
    let daemon_group = daemon_group.expect("every system has this group").gid;
    let sts = FakeSts::start(Duration::from_secs(3600));
    let directory = Directory::new();
    let key = directory.write("key.json", sts.user_key("BOOT").json(), 0o600);
    let role = ["--role-arn", ARN, "--sts-endpoint", &sts.url()];
    for (user, gid) in [
        ("nobody", nobody().gid),
        ("nobody:daemon", daemon_group),
        (&nobody().uid.to_string(), nobody().gid),
    ] {
        let bootstrap = ["--bootstrap-file", &key, "--user", user];
        let mock = start(&[&role[..], &bootstrap].concat());
        // By now all its threads are there, those that serve and those that ask STS.
        mock.wait_for("assumed: ");
        mock.get("/");
        let (uid, gid) = (nobody().uid.to_string(), gid.to_string());
        let pid = mock.pid().to_string();
        let ps = Command::new("ps")
            .args(["-o", "uid=", "-o", "ruid=", "-o", "rgid=", "-p", &pid])
            .output()
            .expect("every system has ps");
        let ps = String::from_utf8(ps.stdout).expect("numbers");
        let found: Vec<&str> = ps.split_whitespace().collect();
        assert_eq!(found, [&uid, &uid, &gid], "{user}");
        if !cfg!(target_os = "linux") {
            // The rest is in /proc; elsewhere src/privileges.rs asks from within.
            continue;
        }
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("our own child");
        let tasks: Vec<PathBuf> = tasks.map(|task| task.expect("listed").path()).collect();
        assert!(tasks.len() > 4, "{tasks:?}");
        for task in tasks {
            let status = status_of(&task);
            // Real, effective, saved and of the file system: none to go back to.
            assert_eq!(status("Uid"), [uid.as_str(); 4], "{user}");
            assert_eq!(status("Gid"), [gid.as_str(); 4], "{user}");
            assert_eq!(status("Groups"), [gid.as_str()], "{user}");
            for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
                assert_eq!(status(set), ["0000000000000000"], "{user}: {set}");
            }
        }
    }
}

#[test]
fn a_low_port_is_bound_before_root_is_given_up() {
    if needs_root() {
        return;
    }
    // Port 0 takes a free one; a low one is taken where this machine has it free.
    let free = (600..1000).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let Some(port) = free.map(|port: u16| port.to_string()) else {
        return skipped("no low port is free");
    };
    let mut command = imds_mock();
    command.args(["--port", &port, "--user", "nobody"]);
    let mock = Mock::spawn(command, 1, None);
    assert_eq!(mock.address().port().to_string(), port);
    assert_eq!(mock.get("/").status, 200);
}

#[test]
fn who_cannot_be_become_is_an_error_before_anything_is_bound() {
    // Bound first, it would be 69.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    for (user, said) in [
        ("nosuchuser", "\"nosuchuser\""),
        ("", "\"\""),
        (":daemon", "no user"),
        ("nobody:nosuchgroup", "\"nosuchgroup\""),
        ("nobody:", "group"),
        ("3999999998", "3999999998:GROUP"),
        ("root", "superuser"),
        ("0", "superuser"),
        ("root:daemon", "superuser"),
    ] {
        for task in [&["--check"][..], &[]] {
            let arguments = [&["--port", &port, "--user", user], task].concat();
            let (status, stdout, stderr) = crate::common::run(&arguments);
            assert_eq!((status, stdout.as_str()), (64, ""), "{user}: {stderr}");
            assert!(stderr.starts_with("imds_mock: --user: "), "{stderr}");
            assert!(stderr.contains(said), "{user}: {stderr}");
        }
    }
}

#[test]
fn who_is_not_root_becomes_nobody_else() {
    let mut command = command(&["--user", "nobody"]);
    let directory = Directory::new();
    if geteuid().is_root() {
        // Wherever it was built, perhaps not for all to reach.
        let program = directory.path("imds_mock");
        // By another process: one that this one starts meanwhile would have the file open for
        // writing, and what is open for writing cannot be run.
        let paths = [env!("CARGO_BIN_EXE_imds_mock"), &program];
        let copied = Command::new("cp").args(paths).status();
        assert!(copied.expect("every system has cp").success());
        command = Command::new(&program);
        command.args(["--port", "0", "--user", "nobody"]);
        let nobody = nobody();
        command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
        command.current_dir("/");
    }
    let (status, stdout, stderr) = run_any(&mut command);
    assert_eq!((status, stdout), (77, vec![]), "{stderr}");
    assert!(stderr.contains("start it as root"), "{stderr}");
}

#[test]
fn each_warning_is_there_when_it_is_due_and_only_then() {
    if needs_root() {
        return;
    }
    let directory = Directory::new();
    let role = json!({"role": {"arn": ARN, "sts_endpoint": "http://127.0.0.1:1"}}).to_string();
    let fixed = json!({"role": {"arn": ARN, "credentials": {
        "access_key_id": "A", "secret_access_key": "s", "token": "t"}}});
    let fixed = fixed.to_string();
    let state = format!("{}/state.json", directory.of_nobody("state"));
    fs::create_dir(directory.path("roots")).expect("a new one");
    let roots_state = directory.path("roots/state.json");
    directory.write("data", "x", 0o600);
    let data = json!({"user_data_file": "data"}).to_string();
    let as_root = "running as root";
    let shared = "nobody is shared";
    let unread = "a reload will fail";
    let unwritten = "nobody cannot write there";
    let to_all = "for whoever reaches this address";
    let open = ["--host", "0.0.0.0"];
    let cases: Vec<(&str, u32, Vec<&str>, Vec<&str>)> = vec![
        ("{}", 0o600, vec![], vec![as_root]),
        (&role, 0o600, vec![], vec![as_root]),
        ("{}", 0o644, vec!["--user", "nobody"], vec![]),
        ("{}", 0o640, vec!["--user", "nobody"], vec![unread]),
        (&role, 0o644, vec!["--user", "nobody"], vec![shared]),
        (&role, 0o644, vec!["--user", "nobody:daemon"], vec![shared]),
        // By its number it is somebody's choice.
        (&role, 0o600, vec!["--user", "4001:4001"], vec![unread]),
        (&role, 0o644, vec!["--user", "4001:4001"], vec![]),
        (&fixed, 0o644, vec!["--user", "nobody"], vec![]),
        (&data, 0o644, vec!["--user", "nobody"], vec![unread]),
        (
            &fixed,
            0o644,
            [&open[..], &["--user", "nobody"]].concat(),
            vec![to_all],
        ),
        (
            &role,
            0o644,
            vec!["--user", "nobody", "--state-file", &state],
            vec![shared],
        ),
        (
            &role,
            0o644,
            vec!["--user", "nobody", "--state-file", &roots_state],
            vec![shared, unwritten],
        ),
    ];
    for (config, mode, arguments, expected) in cases {
        let path = directory.write("config.json", config, mode);
        let mock = start(&[&["--config", &path], &arguments[..]].concat());
        // A reload is answered behind everything that the start has said.
        mock.signal("HUP");
        mock.wait_for(match expected.contains(&unread) {
            true => "the old configuration stays",
            false => "read again",
        });
        let said = mock.stderr();
        for warning in [as_root, shared, unread, unwritten, to_all] {
            let times = usize::from(expected.contains(&warning));
            let found = said.matches(warning).count();
            assert_eq!(found, times, "{config} {arguments:?}: {said}");
        }
        let warnings = said.matches("warning: ").count();
        assert_eq!(warnings, expected.len(), "{arguments:?}: {said}");
        for (warning, name) in [(unread, "cannot read"), (unwritten, "state.json")] {
            assert_eq!(said.contains(name), said.contains(warning), "{said}");
        }
    }
}

#[test]
fn a_reload_that_the_user_cannot_read_keeps_the_old_and_names_the_file() {
    if needs_root() {
        return;
    }
    let directory = Directory::new();
    let path = directory.write("config.json", "{\"user_data\": \"old\"}", 0o644);
    let mock = start(&["--config", &path, "--user", "nobody"]);
    assert!(!mock.stderr().contains("warning"), "{}", mock.stderr());
    directory.write("config.json", "{\"user_data\": \"new\"}", 0o600);
    mock.signal("HUP");
    mock.wait_for("the old configuration stays");
    let line = mock.wait_for("cannot read it: ");
    assert!(line.contains(&path), "{line}");
    assert_eq!(mock.text("/latest/user-data"), "old");
    directory.allow("config.json", 0o644);
    mock.signal("HUP");
    mock.wait_for("read again");
    assert_eq!(mock.text("/latest/user-data"), "new");
}

#[test]
fn secrets_are_read_as_root_and_the_state_is_written_as_the_user() {
    if needs_root() {
        return;
    }
    let sts = FakeSts::start(Duration::from_secs(3600));
    let directory = Directory::new();
    fs::create_dir(directory.path("secret")).expect("a new one");
    directory.allow("secret", 0o700);
    let key = directory.write("secret/key.json", sts.user_key("BOOT").json(), 0o600);
    let secret = directory.write("secret/secret", "sesame", 0o600);
    let state = format!("{}/state.json", directory.of_nobody("state"));
    let url = sts.url();
    let arguments = [
        "--role-arn",
        ARN,
        "--sts-endpoint",
        &url,
        "--bootstrap-file",
        &key,
        "--bootstrap-secret-file",
        &secret,
        "--state-file",
        &state,
        "--user",
        "nobody",
    ];
    let written = || {
        wait_until("a state file", || Path::new(&state).exists());
        let metadata = fs::metadata(&state).expect("it is there");
        assert_eq!(metadata.uid(), nobody().uid.as_raw());
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        let state = fs::read(&state).expect("root reads everything");
        let state: Value = serde_json::from_slice(&state).expect("JSON");
        state["session"]["credentials"]["AccessKeyId"].clone()
    };
    let mock = start(&arguments);
    mock.wait_for("assumed: ");
    assert_eq!(written(), "ASIASESSION0");
    drop(mock);
    // As root wrote it once, before there was a user: it cannot be read, and that is said.
    chown(&state, Some(0), Some(0)).expect("root may");
    let mock = start(&arguments);
    let line = mock.wait_for("starting without it");
    assert!(line.contains("cannot be read: Permission denied"), "{line}");
    mock.wait_for("assumed: ");
    drop(mock);
    assert_eq!(written(), "ASIASESSION1");
}
