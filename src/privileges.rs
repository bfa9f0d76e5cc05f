//! Who the process is and what it may use: becoming `--user` once everything is bound and read
//! (docs/architecture.md, D8), and the limits on core dumps, descriptors and address space. When
//! these are called is `main`'s business.

use std::fs::OpenOptions;
use std::path::Path;
use std::{fmt, io};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User};
use nix::unistd::{getegid, geteuid, getgid, getuid, setgid, setuid};

/// A user, with the one group it gets, for whom root is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Why the process cannot become the user it should.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no such user.
    UnknownUser(String),
    /// There is no such group.
    UnknownGroup(String),
    /// A number that no user of this system has, so that its group is not known.
    NoGroup(String),
    /// The superuser: nothing would be given up.
    Superuser(String),
    /// The databases of users and groups could not be asked for this name.
    Lookup(String, Errno),
    /// Only root can become somebody else; `uid` is who we are.
    NotRoot { name: String, uid: u32 },
    /// The system refused a call.
    Refused { call: &'static str, errno: Errno },
    /// Every call went well, and still the process is more than it should be.
    NotDropped(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "--user: ")?;
        match self {
            Error::UnknownUser(name) => write!(f, "there is no user {name:?}"),
            Error::UnknownGroup(name) => write!(f, "there is no group {name:?}"),
            Error::NoGroup(id) => {
                write!(f, "no user has the number {id}; say its group: {id}:GROUP")
            }
            Error::Superuser(name) => write!(
                f,
                "{name:?} is the superuser; name a user without rights, such as nobody"
            ),
            Error::Lookup(name, errno) => {
                write!(f, "{name:?} could not be looked up: {}", errno.desc())
            }
            Error::NotRoot { name, uid } => write!(
                f,
                "only root can become {name:?}, and this process runs as user {uid}: \
                 start it as root, or leave --user out"
            ),
            Error::Refused { call, errno } => write!(
                f,
                "{call}: {}: root cannot be given up here; \
                 have the service manager start it as the user, without --user",
                errno.desc()
            ),
            Error::NotDropped(what) => write!(f, "root was not given up for good: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl Identity {
    /// Looks up `NAME` or `NAME:GROUP`, where either may be a number; without a group it is the
    /// user's own. Needs no rights and changes nothing.
    pub fn lookup(text: &str) -> Result<Identity, Error> {
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        let mut user = found(User::from_name(name), name)?;
        if let (None, Some(id)) = (&user, number(name)) {
            user = found(User::from_uid(Uid::from_raw(id)), name)?;
        }
        let uid = match (&user, number(name)) {
            (Some(user), _) => user.uid,
            (None, Some(id)) => Uid::from_raw(id),
            (None, None) => return Err(Error::UnknownUser(name.to_owned())),
        };
        if uid.is_root() {
            return Err(Error::Superuser(name.to_owned()));
        }
        let gid = match (group, user) {
            (Some(group), _) => find_group(group)?,
            (None, Some(user)) => user.gid,
            (None, None) => return Err(Error::NoGroup(name.to_owned())),
        };
        let name = name.to_owned();
        Ok(Identity { name, uid, gid })
    }

    /// The name or number it was looked up by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Becomes this user with this one group, in all threads and for good, and looks whether that
    /// is so. After an error the process may be half way, and must end.
    pub fn assume(&self) -> Result<(), Error> {
        let now = geteuid();
        if !now.is_root() {
            return Err(Error::NotRoot {
                name: self.name.clone(),
                uid: now.as_raw(),
            });
        }
        // In this order: once setuid is done, the others are refused.
        groups::set(self.gid).map_err(refused("setgroups"))?;
        setgid(self.gid).map_err(refused("setgid"))?;
        setuid(self.uid).map_err(refused("setuid"))?;
        self.verify()
    }

    /// Asks the system who we are, and tries to become root again.
    fn verify(&self) -> Result<(), Error> {
        let groups = groups::get().map_err(refused("getgroups"))?;
        if (getuid(), geteuid()) != (self.uid, self.uid) {
            Err(Error::NotDropped("the user is another one"))
        } else if (getgid(), getegid()) != (self.gid, self.gid) {
            Err(Error::NotDropped("the group is another one"))
        } else if groups.iter().any(|group| *group != self.gid) {
            Err(Error::NotDropped("other groups are left"))
        } else if setuid(Uid::from_raw(0)).is_ok() {
            Err(Error::NotDropped("setuid(0) is still allowed"))
        } else {
            Ok(())
        }
    }
}

fn refused(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Refused { call, errno }
}

fn find_group(name: &str) -> Result<Gid, Error> {
    match found(Group::from_name(name), name)? {
        Some(group) => Ok(group.gid),
        None => {
            (number(name).map(Gid::from_raw)).ok_or_else(|| Error::UnknownGroup(name.to_owned()))
        }
    }
}

/// What a database answered. Where it does not exist at all, it has nobody in it.
fn found<T>(answer: nix::Result<Option<T>>, name: &str) -> Result<Option<T>, Error> {
    match answer {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        answer => answer.map_err(|errno| Error::Lookup(name.to_owned(), errno)),
    }
}

/// An id. The largest number is none: to several calls it means "leave it as it is".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// The supplementary groups of the process.
#[cfg(not(target_vendor = "apple"))]
mod groups {
    use nix::unistd::{Gid, getgroups, setgroups};

    pub fn set(only: Gid) -> nix::Result<()> {
        setgroups(&[only])
    }

    pub fn get() -> nix::Result<Vec<Gid>> {
        getgroups()
    }
}

/// On macOS a directory service keeps them, and nix has no calls for it: there is no `--user`.
#[cfg(target_vendor = "apple")]
mod groups {
    use nix::errno::Errno;
    use nix::unistd::Gid;

    pub fn set(_: Gid) -> nix::Result<()> {
        Err(Errno::ENOTSUP)
    }

    pub fn get() -> nix::Result<Vec<Gid>> {
        Err(Errno::ENOTSUP)
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether a file can be made beside `path`, which is how it is replaced.
pub fn can_write_beside(path: &Path) -> io::Result<()> {
    let probe = path.with_extension(format!("probe-{}", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)?;
    drop(file);
    std::fs::remove_file(probe)
}

/// Switches core dumps off for good: they would hold secrets. On Linux a program named in
/// `kernel.core_pattern` is started all the same, and systemd's then keeps nothing.
pub fn disable_core_dumps() -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Raises the soft limit on open files to the hard one, as far as the system lets us, and returns
/// the limit that now holds.
pub fn raise_descriptor_limit() -> u64 {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // macOS refuses "no limit"; then the soft one stays. FreeBSD cuts it to
        // kern.maxfilesperproc, so what holds has to be asked for again.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    descriptor_limit()
}

/// The soft limit on open files.
pub fn descriptor_limit() -> u64 {
    soft_limit(Resource::RLIMIT_NOFILE)
}

/// The soft limit on address space, in bytes.
pub fn address_space_limit() -> u64 {
    #[cfg(target_os = "freebsd")]
    let resource = Resource::RLIMIT_VMEM;
    #[cfg(not(target_os = "freebsd"))]
    let resource = Resource::RLIMIT_AS;
    soft_limit(resource)
}

/// Under a small limit on address space, lowers the soft one, if that is needed, so far that glibc
/// cannot set aside the 64 MiB that each thread is to have for its heap: the first threads would
/// take nearly all there is, and the one that serves would find nothing. Threads then share what
/// there is.
#[cfg(target_os = "linux")]
pub fn share_address_space() {
    const HEAP: u64 = 64 << 20;
    // Room for the serving thread's own heap beside those of the two log writers, and something over.
    const ENOUGH: u64 = 4 * HEAP;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_AS)
        && (HEAP..ENOUGH).contains(&soft)
    {
        let _ = setrlimit(Resource::RLIMIT_AS, HEAP, hard);
    }
}

/// Nothing: no other allocator sets so much aside.
#[cfg(not(target_os = "linux"))]
pub fn share_address_space() {}

fn soft_limit(resource: Resource) -> u64 {
    // Of another sign on each system; one that u64 cannot hold is no limit.
    getrlimit(resource).map_or(0, |(soft, _)| {
        u64::try_from(i128::from(soft)).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::mpsc;
    use std::{env, thread};

    fn nobody() -> User {
        let user = User::from_name("nobody").expect("the user database can be read");
        user.expect("every system has this user")
    }

    #[test]
    fn a_user_is_found_by_name_or_number_with_its_own_group() {
        let nobody = nobody();
        for text in ["nobody".to_owned(), nobody.uid.to_string()] {
            let found = Identity::lookup(&text).expect(&text);
            assert_eq!((found.uid, found.gid), (nobody.uid, nobody.gid));
            assert_eq!(found.name(), text);
        }
    }

    #[test]
    fn a_group_replaces_the_users_own() {
        let daemon = Group::from_name("daemon").expect("the group database can be read");
        let daemon = daemon.expect("every system has this group").gid;
        for text in ["nobody:daemon".to_owned(), format!("nobody:{daemon}")] {
            let found = Identity::lookup(&text).expect(&text);
            assert_eq!((found.uid, found.gid), (nobody().uid, daemon));
        }
        let unknown = Identity::lookup("3999999998:3999999999").expect("numbers need no entry");
        assert_eq!(unknown.uid.as_raw(), 3_999_999_998);
        assert_eq!(unknown.gid.as_raw(), 3_999_999_999);
    }

    #[test]
    fn what_cannot_be_assumed_is_refused_by_name() {
        for (text, error) in [
            ("nosuchuser", Error::UnknownUser("nosuchuser".into())),
            ("", Error::UnknownUser("".into())),
            (":daemon", Error::UnknownUser("".into())),
            ("nobody\0", Error::UnknownUser("nobody\0".into())),
            ("4294967295", Error::UnknownUser("4294967295".into())),
            (
                "nobody:nosuchgroup",
                Error::UnknownGroup("nosuchgroup".into()),
            ),
            ("nobody:", Error::UnknownGroup("".into())),
            ("3999999998", Error::NoGroup("3999999998".into())),
            ("root", Error::Superuser("root".into())),
            ("0:daemon", Error::Superuser("0".into())),
        ] {
            assert_eq!(Identity::lookup(text), Err(error), "{text:?}");
        }
    }

    /// Set for the process that gives root up, see below.
    const CHILD: &str = "IMDS_MOCK_TEST_GIVES_ROOT_UP";

    #[test]
    fn root_is_given_up_for_good_and_only_by_root() {
        if !geteuid().is_root() {
            let identity = Identity::lookup("nobody").expect("every system has this user");
            let error = identity.assume().expect_err("we are not root");
            assert!(matches!(error, Error::NotRoot { .. }), "{error}");
            assert!(error.to_string().contains("start it as root"), "{error}");
            return;
        }
        // In a process of its own: the other tests stay root.
        let child = Command::new(env::current_exe().expect("a test is a file"))
            .args(["--exact", "privileges::tests::gives_root_up", "--ignored"])
            .env(CHILD, "1")
            .output()
            .expect("a test can be run again");
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "for root_is_given_up_for_good_and_only_by_root"]
    fn gives_root_up() {
        if env::var_os(CHILD).is_none() {
            return;
        }
        let nobody = nobody();
        let other_groups = [Gid::from_raw(0), Gid::from_raw(1), nobody.gid];
        nix::unistd::setgroups(&other_groups).expect("root may");
        // A thread that was there before is as little root afterwards as a new one.
        let (go, wait) = mpsc::channel();
        let older = thread::spawn(move || {
            wait.recv().expect("the test is still there");
            (geteuid(), getegid(), setuid(Uid::from_raw(0)))
        });

        let identity = Identity::lookup("nobody").expect("every system has this user");
        assert_eq!(identity.assume(), Ok(()));
        let root = Err(Errno::EPERM);
        assert_eq!((getuid(), geteuid()), (nobody.uid, nobody.uid));
        assert_eq!((getgid(), getegid()), (nobody.gid, nobody.gid));
        let left = nix::unistd::getgroups().expect("anybody may ask");
        assert!(left.iter().all(|group| *group == nobody.gid), "{left:?}");
        assert_eq!(setuid(Uid::from_raw(0)), root);
        assert_eq!(setgid(Gid::from_raw(0)), root);
        assert_eq!(nix::unistd::setgroups(&other_groups), root);
        go.send(()).expect("the thread is still there");
        let seen = older.join().expect("it does not panic");
        assert_eq!(seen, (nobody.uid, nobody.gid, root));
        assert!(matches!(identity.assume(), Err(Error::NotRoot { .. })));
    }

    #[test]
    fn a_process_that_is_still_more_than_the_user_is_found_out() {
        let us = Identity {
            name: "us".into(),
            uid: geteuid(),
            gid: getegid(),
        };
        let other_user = Identity {
            uid: Uid::from_raw(geteuid().as_raw() + 1),
            ..us.clone()
        };
        let other_group = Identity {
            gid: Gid::from_raw(getegid().as_raw() + 1),
            ..us.clone()
        };
        assert!(other_user.verify().is_err());
        assert!(other_group.verify().is_err());
        if geteuid().is_root() {
            assert!(us.verify().is_err());
        }
    }

    #[test]
    fn no_core_is_dumped_any_more() {
        disable_core_dumps().expect("anybody may lower a limit");
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
    }

    #[test]
    fn the_descriptor_limit_is_the_one_that_holds() {
        let (before, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("anybody may ask");
        let told = raise_descriptor_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("anybody may ask");
        assert_eq!(i128::from(told), i128::from(soft));
        assert!(soft >= before);
        if cfg!(target_os = "linux") {
            assert_eq!(soft, hard);
        }
    }
}
