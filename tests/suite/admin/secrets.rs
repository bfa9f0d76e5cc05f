//! No answer, log line, error, argument list or environment ever holds a secret or a part of one.
//! Only the role's own documents do, and they are left out here.

use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use super::{ARN, CREDS, HOUR, start, with_role};
use crate::common::sts::{FakeSts, Fault, Key};
use crate::common::{Answer, Mock, PATIENCE, TempFile, run};

/// So many bytes in a row of a secret give it away.
const TELLING: usize = 12;

/// Everything that was seen, and from where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, from: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((from.into(), bytes.into()));
    }

    fn answer(&mut self, from: &str, answer: &Answer) {
        let fields = format!("{} {:?}", answer.status, answer.fields);
        self.add(format!("{from}, head"), fields);
        self.add(from, answer.body.clone());
    }

    /// What others can see of the process.
    fn process(&mut self, daemon: &Mock) {
        let mut files = vec!["cmdline".to_owned(), "environ".to_owned()];
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()));
        files.extend(tasks.into_iter().flatten().flatten().map(|task| {
            let thread = task.file_name();
            format!("task/{}/comm", thread.to_string_lossy())
        }));
        for file in files {
            // A thread may have ended meanwhile; and only Linux has these.
            if let Ok(bytes) = fs::read(format!("/proc/{}/{file}", daemon.pid())) {
                self.add(file, bytes);
            }
        }
        let pid = daemon.pid().to_string();
        let ps = Command::new("ps")
            .args(["-o", "args=", "-p", &pid])
            .output();
        if let Ok(output) = ps {
            self.add("ps", output.stdout);
        }
    }

    /// Fails if any of `secrets` is in anything seen, also in part, and also with an escape.
    fn search(&self, secrets: &[String]) {
        for (from, bytes) in &self.0 {
            let text = String::from_utf8_lossy(bytes);
            let decoded = ["%2F", "%2f", "\\/", "\\u002f"]
                .iter()
                .fold(text.clone().into_owned(), |text, slash| {
                    text.replace(slash, "/")
                })
                .replace("%2B", "+")
                .replace("%3D", "=");
            for secret in secrets {
                let length = secret.len().min(TELLING);
                for part in secret.as_bytes().windows(length) {
                    let part = std::str::from_utf8(part).expect("they are ASCII");
                    assert!(
                        !text.contains(part) && !decoded.contains(part),
                        "{part:?} of a secret in {from}: {text}"
                    );
                }
            }
        }
    }
}

fn secrets_of<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<String> {
    keys.into_iter()
        .flat_map(|key| [Some(key.secret.clone()), key.token.clone()])
        .flatten()
        .collect()
}

#[test]
fn the_search_finds_what_it_must() {
    let secrets = ["uZq7/xW+kPd3/Lm9vTb5".to_owned()];
    for text in [
        "a uZq7/xW+kPd3/Lm9vTb5",
        "xW+kPd3/Lm9v",
        "uZq7%2FxW%2BkPd3%2F",
    ] {
        let mut seen = Seen::default();
        seen.add("a test", text);
        let found = std::panic::catch_unwind(|| seen.search(&secrets));
        assert!(found.is_err(), "{text}");
    }
}

#[test]
fn no_output_of_a_whole_life_has_a_secret() {
    let mut seen = Seen::default();
    let sts = FakeSts::start(super::SECOND * 2);
    let first = sts.temporary_key("FIRST");
    let second = sts.temporary_key("SECOND");
    let wrong = Key {
        secret: "qWe7/rTz+uIo9/PaSd3fGh5jKl1YxCv8BnM2qA4wS".to_owned(),
        ..second.clone()
    };
    let admin_secret = "nIm3/bUs+2000/open-the-door-please";
    let secret_file = TempFile::new(admin_secret);
    let bootstrap_file = TempFile::new(first.json());
    let state_file = TempFile::new("");
    let path = |file: &TempFile| file.path().to_str().expect("UTF-8").to_owned();
    let daemon = Mock::with_admin(
        &with_role(&sts),
        &[
            "--bootstrap-secret-file",
            &path(&secret_file),
            "--bootstrap-file",
            &path(&bootstrap_file),
            "--state-file",
            &path(&state_file),
        ],
    );
    daemon.wait_for("signed by ASIAFIRST");
    daemon.wait_for("renewed: ");

    let right = format!("Bearer {admin_secret}");
    let ask = |seen: &mut Seen, method: &str, target: &str, secret: &str, body: &str| {
        let fields = [("Authorization", secret)];
        let answer = daemon.call_with(method, target, &fields, body);
        seen.answer(&format!("{method} {target}"), &answer);
        answer.status
    };
    // Everything there is to ask, with the secret and with one that is nearly right.
    let nearly = format!("Bearer {admin_secret}x");
    for secret in [&right, &nearly, &format!("Basic {admin_secret}")] {
        for (method, target) in [
            ("GET", "/status"),
            ("GET", "/status?verbose"),
            ("GET", "/config"),
            ("GET", "/metadata/iam/"),
            ("GET", "/metadata/iam/info"),
            ("GET", "/metadata/iam/security-credentials/app"),
            ("GET", "/metadata/iam/security-credentials-extended/app"),
            ("GET", "/events"),
            ("GET", "/faults"),
            ("GET", "/clock"),
            ("GET", "/metrics"),
            ("GET", "/requests"),
            ("GET", "/verdicts"),
            ("GET", CREDS),
            ("POST", "/reload"),
            ("PUT", "/metadata/iam/security-credentials/app"),
        ] {
            ask(&mut seen, method, target, secret, "");
        }
    }
    // Bodies that are nearly right.
    let json = second.json();
    let as_list = json.replace("\":\"", "\":[\"").replace("\",", "\"],");
    for body in [
        &json[1..],
        &json[..json.len() - 1],
        &format!("{json}{json}"),
        &format!("[{json}]"),
        &format!("\"{}\"", second.secret),
        &second.secret,
        &as_list,
        &json.replace("SecretAccessKey", "secretAccessKey"),
        &json.replace("AccessKeyId\":\"", "AccessKeyId\":\" "),
        &json.replace(&second.secret, &format!("{}\u{e9}", second.secret)),
    ] {
        assert_eq!(ask(&mut seen, "POST", CREDS, &right, body), 400, "{body}");
    }
    ask(&mut seen, "POST", CREDS, &nearly, &json);
    // An STS that quotes what it was sent and all that it ever handed out, then wrong keys.
    sts.script([Fault::Echo, Fault::Echo, Fault::Echo]);
    let bootstrap = |seen: &mut Seen, key: &Key| {
        assert_eq!(ask(seen, "POST", CREDS, &right, &key.json()), 200);
    };
    bootstrap(&mut seen, &second);
    daemon.wait_for("SignatureDoesNotMatch");
    bootstrap(&mut seen, &wrong);
    daemon.wait_for("ASIASECOND000000 are not taken");
    sts.always(Fault::Echo);
    daemon.wait_for("expired: ");
    let verbose = [("Authorization", &*right)];
    // The call that was under way when they expired has its answer yet to come.
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        let answer = daemon.call_with("GET", "/status?verbose", &verbose, "");
        seen.answer("GET /status?verbose", &answer);
        if answer.text().contains("[hidden]") {
            break answer;
        }
        assert!(Instant::now() < deadline, "{}", answer.text());
    };
    assert!(answer.text().contains("\"failed\""), "{}", answer.text());
    // The failure document may be looked into: it has no keys.
    let document = daemon.text(super::DOCUMENT);
    assert!(document.contains("[hidden]"), "{document}");
    seen.add("the failure document", document);
    sts.always(Fault::None);
    // A no is asked again slowly, an offer at once.
    bootstrap(&mut seen, &second);
    daemon.wait_for("recovered: ");
    ask(&mut seen, "GET", "/status?verbose", &right, "");
    for path in ["", "iam/", "iam/info", "iam/security-credentials/"] {
        let answer = daemon.get(&format!("/latest/meta-data/{path}"));
        seen.answer(path, &answer);
    }
    // A reload that cannot read what it should.
    daemon.write(format!("{{\"role\": \"{}\"", second.secret));
    daemon.signal("HUP");
    daemon.wait_for("the old configuration stays");
    seen.process(&daemon);
    let config = fs::read(daemon.config()).expect("it is ours");
    assert!(!config.is_empty());

    let imds_token = daemon.token().to_owned();
    let mut mock = daemon;
    mock.signal("TERM");
    assert!(
        mock.wait(crate::common::PATIENCE)
            .expect("it ends")
            .success()
    );
    let stdout: Vec<String> = mock.stdout.iter().collect();
    assert!(stdout.len() > 5, "request lines: {stdout:?}");
    seen.add("stdout", stdout.join("\n"));
    let stderr = mock.stderr();
    assert!(stderr.contains("[hidden]"), "{stderr}");
    seen.add("stderr", stderr);

    let mut secrets = secrets_of(&sts.issued());
    assert!(secrets.len() >= 4);
    secrets.extend(secrets_of([&first, &second, &wrong]));
    secrets.extend([admin_secret.to_owned(), imds_token]);
    seen.search(&secrets);
}

#[test]
fn static_credentials_are_shown_by_their_documents_alone() {
    let secret = "pOi7/uZt+rEw9/AsDf3gHj5kLq1YxCv8BnM2mN4bV";
    let token = "zUi8/oPa+sDf0/GhJk4lYx6cVb2nMq9wErT3zU5i==";
    let misplaced = "lKj6/hGf+dSa8/QwEr2tZu4iOp0YxCv7BnM1aS3dF";
    let role =
        |credentials: serde_json::Value| json!({"role": {"arn": ARN, "credentials": credentials}});
    let good = json!({"access_key_id": "ASIA1", "secret_access_key": secret, "token": token,
        "session_token": misplaced});
    let mut config = role(good);
    config["role"]["secret_access_key"] = json!(misplaced);
    config["credentials"] = json!({"token": misplaced});
    let secrets = [secret, token, misplaced].map(str::to_owned);

    let mut seen = Seen::default();
    let daemon = Mock::with_admin(&config, &[]);
    assert_eq!(daemon.document()["SecretAccessKey"], secret);
    for target in [
        "/config",
        "/status?verbose",
        "/metadata/iam/info",
        "/metadata/iam/security-credentials/app",
    ] {
        seen.answer(target, &daemon.call("GET", target, ""));
    }
    seen.answer("/reload", &daemon.call("POST", "/reload", ""));
    daemon.signal("HUP");
    daemon.wait_for("read again");
    seen.add("stderr", daemon.stderr());
    seen.process(&daemon);
    let file = daemon.config().to_str().expect("UTF-8");
    let (status, stdout, stderr) = run(&["--config", file, "--print-config"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("ASIA1"), "{stdout}");
    seen.add("--print-config", stdout);
    seen.add("--print-config, stderr", stderr);

    // What is wrong with it is said without it.
    for credentials in [
        json!(secret),
        json!([secret, token]),
        json!({"access_key_id": "ASIA1", "secret_access_key": [secret], "token": token}),
        json!({"access_key_id": "ASIA1", "secret_access_key": {"a": secret}, "token": token}),
        json!({"access_key_id": "ASIA1", "secret_access_key": format!("{secret}\n"), "token": 7}),
        json!({"access_key_id": "ASIA1", "secret_access_key": secret, "token": token,
            "expiration": token}),
        json!({"access_key_id": "ASIA1", "token": token}),
        json!({"access_key_id": secret, "secret_access_key": "", "token": null}),
    ] {
        let file = TempFile::new(role(credentials.clone()).to_string());
        let path = file.path().to_str().expect("UTF-8");
        for task in ["--check", "--print-config"] {
            let (status, stdout, stderr) = run(&["--config", path, task]);
            assert_eq!((status, stdout.as_str()), (78, ""), "{credentials}");
            assert!(stderr.contains("role.credentials"), "{stderr}");
            seen.add(format!("{task}: {credentials}"), stderr);
        }
    }
    seen.search(&secrets);
}

#[test]
fn no_line_has_the_token_of_a_request() {
    let sts = FakeSts::start(HOUR);
    let daemon = start(&sts, &[]);
    let token = daemon.token().to_owned();
    let wrong = format!("{token}x");
    for value in [&token, &wrong] {
        daemon.ask(
            "GET",
            "/latest/meta-data/",
            &[(crate::common::TOKEN, value)],
        );
    }
    let mut mock = daemon;
    mock.signal("TERM");
    assert!(
        mock.wait(crate::common::PATIENCE)
            .expect("it ends")
            .success()
    );
    let mut seen = Seen::default();
    let stdout: Vec<String> = mock.stdout.iter().collect();
    assert_eq!(stdout.len(), 3, "{stdout:?}");
    seen.add("stdout", stdout.join("\n"));
    seen.add("stderr", mock.stderr());
    seen.search(&[token]);
}
