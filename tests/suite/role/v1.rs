//! What version 1 of the protocol gets of a role of STS.

use super::*;

use ForV1::{Nothing, Same, Separate};
use RoleDelivery::{V1, V2};

const NAME: &str = "i-1234567890abcdef0";
const V1_NAME: &str = "i-1234567890abcdef0-v1";

fn start_separate(sts: &FakeSts, directory: &Directory, key: Option<&Key>) -> Started {
    let bootstrap = key.map(|key| Credentials::parse(key.json().as_bytes()).unwrap());
    start_for(sts, Separate, |options| {
        options.bootstrap = bootstrap;
        options.state_file = Some(directory.file());
    })
}

fn wait_for_both(started: &Started) -> [String; 2] {
    wait_until(|| [V1, V2].iter().all(|by| started.now_by(*by).is_ok()));
    [V1, V2].map(|by| started.now_by(by).unwrap())
}

#[test]
fn a_separate_session_has_a_name_of_its_own_and_renews_itself() {
    let sts = FakeSts::start(SECOND * 2);
    let key = sts.user_key("BOOT");
    let started = start_for(&sts, Separate, |_| {});
    started.offer(&key);
    let [v1, v2] = wait_for_both(&started);
    assert_ne!(v1, v2);
    assert!(started.lines.wait_for("v1: assumed: ").contains(V1_NAME));
    started.lines.wait_for_nth("v1: renewed: ", 2);
    wait_until(|| {
        started
            .lines
            .all()
            .iter()
            .filter(|line| line.starts_with("renewed: "))
            .count()
            > 1
    });
    assert_ne!(started.now_by(V1), started.now_by(V2));
    // Each is signed by the one before of the same name.
    for name in [NAME, V1_NAME] {
        let named = format!("session {name}, key ");
        let mut signer = key.id.clone();
        for line in started.lines.all() {
            let Some((_, of_session)) = line.split_once(&named) else {
                continue;
            };
            assert!(line.ends_with(&format!("signed by {signer}")), "{line}");
            signer = of_session.split(',').next().unwrap().to_owned();
        }
        assert_ne!(signer, key.id, "{name}");
    }
}

#[test]
fn without_a_session_of_its_own_version_1_gets_a_failure_and_not_the_others_keys() {
    let directory = Directory::new("v1");
    let sts = FakeSts::start(SECOND * 60);
    let key = sts.user_key("BOOT");
    let started = start_with_file(&sts, &directory, Some(&key));
    started.lines.wait_for("assumed: ");
    wait_until(|| directory.file().exists());
    let written = fs::read_to_string(directory.file()).unwrap();
    assert!(!written.contains("v1"), "as it always was: {written}");
    drop(started);

    // An old file is taken as it is.
    sts.always(Fault::error(503, "ServiceUnavailable"));
    let started = start_separate(&sts, &directory, None);
    assert_eq!(started.now_by(V2).unwrap(), "ASIASESSION0");
    let (code, _) = started.now_by(V1).unwrap_err();
    assert_eq!(code, FailureCode::Failed);
    assert!(started.is_good(), "version 2 is what counts");
    started.lines.wait_for("v1: failing: ServiceUnavailable");
    wait_until(|| started.role.phase() == Phase::Stale);
    let status = started.verbose();
    let v1 = status.v1.expect("it has one");
    assert_eq!((status.state, v1.state), ("stale", "failed"));
    assert_eq!((&*status.session_name, &*v1.session_name), (NAME, V1_NAME));
    assert!(v1.access_key_id.is_none() && v1.v1.is_none());
    sts.always(Fault::None);
    let [v1, _] = wait_for_both(&started);
    wait_until(|| fs::read_to_string(directory.file()).unwrap().contains(&v1));
    drop(started);

    // A restart finds both.
    sts.always(Fault::Hang);
    let started = start_separate(&sts, &directory, None);
    assert_eq!(started.now_by(V1).unwrap(), v1);
    assert!(started.now_by(V2).is_ok());
    started.lines.wait_for("v1: restored from ");
}

#[test]
fn version_1_may_get_the_same_or_nothing() {
    for (v1, gets) in [
        (Same, Ok("ASIASESSION0")),
        (Nothing, Err("role.v1 is none")),
    ] {
        let sts = FakeSts::start(SECOND * 60);
        let started = start_for(&sts, v1, |_| {});
        started.offer(&sts.user_key("BOOT"));
        started.lines.wait_for("assumed: ");
        assert_eq!(started.now_by(V2).unwrap(), "ASIASESSION0");
        match (started.now_by(V1), gets) {
            (Ok(id), Ok(expected)) => assert_eq!(id, expected),
            (Err((code, message)), Err(part)) => {
                assert_eq!(code, FailureCode::Failed);
                assert!(message.contains(part), "{message}");
            }
            (other, _) => panic!("{other:?}"),
        }
        assert!(started.verbose().v1.is_none());
        assert_eq!(sts.calls().len(), 1);
    }
}
