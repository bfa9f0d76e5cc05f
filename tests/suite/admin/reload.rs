//! SIGHUP: the new configuration whole, or the old one and the reason; what lives, lives on.

use crate::common::http::send;
use crate::common::sts::FakeSts;
use crate::common::{Mock, TOKEN, http};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::{ARN, HOUR, error_of, start, wait_until, with_role};

/// Reloads and waits until the daemon has said `what` once more.
fn reload(daemon: &Mock, config: &Value, what: &str) {
    let said = |daemon: &Mock| daemon.stderr().matches(what).count();
    let before = said(daemon);
    daemon.reload(config);
    wait_until(what, || said(daemon) > before);
}

fn taken(daemon: &Mock, config: &Value) {
    reload(daemon, config, "read again");
}

fn refused(daemon: &Mock, config: &Value) {
    reload(daemon, config, "the old configuration stays");
}

#[test]
fn a_new_configuration_is_taken_and_what_lives_lives_on() {
    let sts = FakeSts::start(HOUR);
    let mut config = with_role(&sts);
    config["instance_id"] = json!("i-0000000000000000a");
    config["tags"] = json!({"Name": "old"});
    let daemon = Mock::with_admin(&config, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let (document, verbose) = (daemon.document(), daemon.verbose());
    let get = |target: &str| {
        let keep = ("Connection", "keep-alive");
        http::request("GET", target, &[(TOKEN, daemon.token()), keep])
    };
    let mut connection = daemon.connect();
    let id = get("/latest/meta-data/instance-id");
    assert_eq!(connection.send(&id).answer().text(), "i-0000000000000000a");

    config["instance_id"] = json!("i-0000000000000000b");
    config["tags"] = json!(null);
    config["user_data"] = json!("new");
    config["role"]["session_name"] = json!("i-0000000000000000a");
    taken(&daemon, &config);
    // Over the same connection and with the same token.
    assert_eq!(connection.send(&id).answer().text(), "i-0000000000000000b");
    for (target, status) in [
        ("/latest/meta-data/tags/instance/Name", 404),
        ("/latest/user-data", 200),
    ] {
        assert_eq!(connection.send(get(target)).answer().status, status);
    }
    assert_eq!((daemon.document(), daemon.verbose()), (document, verbose));
    assert_eq!(sts.calls().len(), 1);
}

#[test]
fn a_wrong_configuration_changes_nothing_and_the_log_says_why() {
    let sts = FakeSts::start(HOUR);
    let mut config = with_role(&sts);
    config["instance_id"] = json!("i-0a");
    config["allowed_hosts"] = json!(["old.test"]);
    let daemon = Mock::with_admin(&config, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let path = daemon.config().display().to_string();
    let mut wrong = config.clone();
    wrong["instance_id"] = json!("i-0b");
    wrong["allowed_hosts"] = json!(["new.test"]);
    let at_once = |changes: &[(&str, Value)], said: &[&str]| {
        let mut wrong = wrong.clone();
        for (key, value) in changes {
            wrong[*key] = value.clone();
        }
        let before = daemon.stderr().len();
        refused(&daemon, &wrong);
        let log = daemon.stderr()[before..].to_owned();
        for part in said {
            assert!(log.contains(part), "{part}: {log}");
        }
        assert!(log.contains(&path), "{log}");
        assert_eq!(daemon.text("/latest/meta-data/instance-id"), "i-0a");
        for (host, status) in [("old.test", 200), ("new.test", 403)] {
            let fields = [("Host", host), (TOKEN, daemon.token())];
            let answer = send(daemon.address(), "GET", "/", &fields, "");
            assert_eq!(answer.status, status, "{host}");
        }
    };
    at_once(&[("mac", json!("zz"))], &["mac: expected ", "\"zz\""]);
    at_once(
        &[("mac", json!(1)), ("http_tokens", json!("maybe"))],
        &["mac: expected", "http_tokens: expected"],
    );
    at_once(
        &[("user_data_file", json!("/no/such/file"))],
        &["user_data_file", "/no/such/file"],
    );
    at_once(
        &[("metadata", json!({"a": "x", "a/b": "y"}))],
        &["metadata"],
    );
    at_once(
        &[("role", json!({"arn": ARN, "sts_endpoint": "x"}))],
        &["role.sts_endpoint"],
    );
    daemon.write("{");
    let before = daemon.stderr().len();
    daemon.signal("HUP");
    wait_until("not JSON", || {
        daemon.stderr()[before..].contains("not JSON")
    });
    let log = daemon.stderr()[before..].to_owned();
    assert!(log.contains(&path), "{log}");
    assert_eq!(daemon.served(), "ASIASESSION0");

    // And it can be mended.
    config["instance_id"] = json!("i-0c");
    taken(&daemon, &config);
    assert_eq!(daemon.text("/latest/meta-data/instance-id"), "i-0c");
}

#[test]
fn post_reload_is_the_same_and_answers_what_the_log_would_say() {
    let sts = FakeSts::start(HOUR);
    let mut config = with_role(&sts);
    let daemon = Mock::with_admin(&config, &[]);
    config["instance_idd"] = json!("i-1");
    daemon.write(config.to_string());
    let answer = daemon.call("POST", "/reload", "");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("instance_idd"), "{}", answer.text());
    config["mac"] = json!("zz");
    daemon.write(config.to_string());
    let answer = daemon.call("POST", "/reload", "");
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("mac: expected"), "{}", answer.text());
}

#[test]
fn the_role_that_sts_is_asked_for_changes_at_a_restart_only() {
    let sts = FakeSts::start(HOUR);
    let config = with_role(&sts);
    let daemon = Mock::with_admin(&config, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    let mut other = config.clone();
    other["role"]["arn"] = json!("arn:aws:iam::123456789012:role/other");
    for role in [
        other["role"].clone(),
        json!(null),
        json!({"arn": ARN, "code": "Failed"}),
        json!({"arn": ARN, "credentials": {
            "access_key_id": "A", "secret_access_key": "s", "token": "t"}}),
    ] {
        let mut config = config.clone();
        config["role"] = role;
        let before = daemon.stderr().len();
        refused(&daemon, &config);
        let log = daemon.stderr()[before..].to_owned();
        assert!(log.contains("role.arn"), "{log}");
        assert!(log.contains("restart"), "{log}");
        assert_eq!(daemon.served(), "ASIASESSION0");
    }
    // The other way round too.
    let daemon = Mock::with_admin(&json!({}), &[]);
    refused(&daemon, &config);
    daemon.wait_for("role.arn");
    assert!(!daemon.text("/latest/meta-data/").contains("iam/"));
}

#[test]
fn settings_of_the_role_that_wait_for_a_restart_are_said() {
    let sts = FakeSts::start(HOUR);
    let config = with_role(&sts);
    let daemon = Mock::with_admin(&config, &[]);
    daemon.assume_with(&sts.user_key("BOOT"));
    taken(&daemon, &config);
    assert!(!daemon.stderr().contains("warning: role"));
    for (key, value) in [
        ("session_name", json!("another")),
        ("duration_seconds", json!(900)),
        ("external_id", json!("another")),
        ("sts_endpoint", json!("http://127.0.0.1:1")),
        ("policy", json!({})),
        ("v1", json!("separate")),
    ] {
        let mut config = config.clone();
        config["role"][key] = value;
        config["user_data"] = json!(key);
        let before = daemon.stderr().len();
        taken(&daemon, &config);
        let log = daemon.stderr()[before..].to_owned();
        assert!(
            log.contains("warning: ") && log.contains("restart"),
            "{key}: {log}"
        );
        assert_eq!(daemon.text("/latest/user-data"), key);
        let answer = daemon.call("POST", "/reload", "");
        assert!(answer.text().contains("restart"), "{}", answer.text());
    }
    assert_ne!(daemon.verbose()["session_name"], "another");
}

#[test]
fn who_may_do_what_follows_the_new_configuration() {
    let sts = FakeSts::start(HOUR);
    let mut config = with_role(&sts);
    let daemon = Mock::with_admin(&config, &[]);
    let verbose = || {
        let fields = [("Host", "health.test")];
        daemon.call_with("GET", "/status?verbose", &fields, "")
    };
    error_of(&verbose(), 403);
    config["allowed_hosts"] = json!(["health.test"]);
    taken(&daemon, &config);
    assert_eq!(verbose().status, 200);
    let fields = [("Host", "health.test"), (TOKEN, daemon.token())];
    let answer = send(daemon.address(), "GET", "/", &fields, "");
    assert_eq!(answer.status, 200);
}

#[test]
fn a_flag_still_overrides_what_a_reload_reads() {
    let sts = FakeSts::start(HOUR);
    let config = json!({"region": "rack-9"});
    let arguments = ["--role-arn", ARN, "--sts-endpoint", &sts.url()];
    let daemon = Mock::with_admin(&config, &arguments);
    daemon.assume_with(&sts.user_key("BOOT"));
    let mut config = config.clone();
    config["role"] = json!({"arn": "arn:aws:iam::123456789012:role/other"});
    taken(&daemon, &config);
    assert_eq!(daemon.served(), "ASIASESSION0");
}

#[test]
fn a_storm_of_signals_ends_with_the_last_configuration() {
    let sts = FakeSts::start(HOUR);
    let mut config = with_role(&sts);
    let daemon = Mock::with_admin(&config, &[]);
    for n in 0..50 {
        config["user_data"] = json!(format!("{n}"));
        daemon.reload(&config);
    }
    // Several that arrive together may be one.
    wait_until("the last one", || {
        daemon.get("/latest/user-data").body == b"49"
    });
    assert!(!daemon.stderr().contains("stays"), "{}", daemon.stderr());
}

#[test]
fn the_last_words_are_written_before_the_end() {
    // The writer of the log has to lose a race for this to fail, so it runs more than once.
    for _ in 0..20 {
        let daemon = Mock::with_admin(&json!({}), &[]);
        // Of two signals that wait, either may come first: the second is sent while the daemon
        // reads on account of the first.
        let path = daemon.config();
        std::fs::remove_file(path).expect("it is ours");
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.expect("every system has mkfifo").success());
        daemon.signal("HUP");
        let open = || {
            let mut options = std::fs::OpenOptions::new();
            options
                .write(true)
                .custom_flags(nix::libc::O_NONBLOCK)
                .open(path)
        };
        let pipe = std::cell::OnceCell::new();
        wait_until("it reads", || {
            open().is_ok_and(|opened| pipe.set(opened).is_ok())
        });
        daemon.signal("TERM");
        let mut pipe = pipe.into_inner().expect("it is open");
        pipe.write_all(br#"{"mac": 5}"#).expect("it reads");
        drop(pipe);
        let mut mock = daemon;
        assert!(
            mock.wait(crate::common::PATIENCE)
                .expect("it ends")
                .success()
        );
        mock.wait_for("mac: expected ");
        mock.wait_for("the old configuration stays");
    }
}

#[test]
fn no_core_is_dumped_once_a_reload_brings_credentials() {
    if !cfg!(target_os = "linux") {
        // FreeBSD shows the limits of another process by procstat(1), of no fixed form.
        return crate::common::skipped("/proc is Linux's");
    }
    let limit = |daemon: &Mock| -> String {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid()));
        let limits = limits.expect("our own child");
        let line = limits.lines().find(|line| line.contains("core file"));
        let line = line.expect("there is such a limit");
        line.split_whitespace().nth(4).expect("soft").to_owned()
    };
    let fixed = json!({"role": {"arn": ARN, "credentials": {
        "access_key_id": "A", "secret_access_key": "s", "token": "t"}}});
    let sts = FakeSts::start(HOUR);
    assert_eq!(limit(&start(&sts, &[])), "0");
    assert_eq!(limit(&Mock::with_admin(&fixed, &[])), "0");
    let daemon = Mock::with_admin(&json!({}), &[]);
    if limit(&daemon) == "0" {
        return crate::common::skipped("nobody dumps core here");
    }
    taken(&daemon, &fixed);
    assert_eq!(limit(&daemon), "0");
    let daemon = Mock::with_admin(&json!({}), &[]);
    daemon.write(fixed.to_string());
    assert_eq!(daemon.call("POST", "/reload", "").status, 200);
    assert_eq!(limit(&daemon), "0");
}
