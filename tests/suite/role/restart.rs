//! What a restart finds: the state file, root certificates.

use super::*;

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
    assert_eq!(started.role.phase(), Phase::Stale);
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
    assert!(!started.is_good());
    let line = started.lines.wait_for("recovered: ");
    assert!(line.contains("signed by ASIASESSION0"), "{line}");
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

/// A state file with a session of these dates.
fn stored(expiration: &str, last_updated: &str) -> String {
    format!(
        r#"{{"role_arn":"{ARN}","bootstrap":null,"session":{{"credentials":{{"AccessKeyId":"ASIAX",
        "SecretAccessKey":"hush","Token":"hush"}},"last_updated":"{last_updated}",
        "expiration":"{expiration}"}}}}"#
    )
}

#[test]
fn dates_of_a_state_file_are_read_with_their_offset_or_are_damage() {
    const PAST: &str = "2026-01-02T03:04:05Z";
    let sts = FakeSts::start(SECOND * 60);
    sts.always(Fault::Hang);
    for (expiration, last_updated, expected) in [
        (
            "2099-01-02T05:04:05+02:00",
            PAST,
            Ok("2099-01-02T03:04:05Z"),
        ),
        (
            "2099-01-02T05:04:05-23:59",
            PAST,
            Ok("2099-01-03T05:03:05Z"),
        ),
        (
            "9999-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            Ok("9999-12-31T23:59:59Z"),
        ),
        ("9999-12-31T23:59:59-23:59", PAST, Err("session.expiration")),
        ("0000-01-01T00:00:00+00:01", PAST, Err("session.expiration")),
        ("2099-01-02T05:04:05", PAST, Err("session.expiration")),
        (
            "2099-01-02T05:04:05Z",
            "0000-01-01T00:00:00+02:00",
            Err("session.last_updated"),
        ),
    ] {
        let directory = Directory::new("dates");
        fs::write(directory.file(), stored(expiration, last_updated)).unwrap();
        let started = start_with_file(&sts, &directory, None);
        match expected {
            Ok(shown) => {
                let line = started.lines.wait_for("restored from ");
                assert!(line.ends_with(&format!("expires {shown}")), "{line}");
                assert_eq!(started.verbose().expiration.as_deref(), Some(shown));
            }
            Err(key) => {
                let line = started.lines.wait_for("is damaged: ");
                assert!(line.contains(key) && !line.contains("hush"), "{line}");
                assert!(!started.is_good());
            }
        }
    }
}

#[test]
fn a_state_file_that_cannot_be_written_is_said_once_and_hurts_nobody() {
    let directory = Directory::new("unwritable");
    let sts = FakeSts::start(SECOND * 2);
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
fn unusable_root_certificates_are_an_error_at_start() {
    let directory = Directory::new("roots");
    let sts = FakeSts::start(SECOND * 2);
    let empty = directory.0.join("empty.pem");
    fs::write(&empty, "nothing here").unwrap();
    let absent = directory.0.join("absent.pem");
    for (path, part) in [(&empty, "no certificate"), (&absent, "absent.pem")] {
        let options = Options {
            ca_bundle: Some(path.clone()),
            ..options(&Lines::default())
        };
        let error = role(&sts, ForV1::Same)
            .start(options)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("AWS_CA_BUNDLE: ") && error.contains(part),
            "{error}"
        );
    }
}
