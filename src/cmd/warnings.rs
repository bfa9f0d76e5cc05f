//! What deserves a warning before the mock serves.

use imds_mock::config::Config;
use imds_mock::privileges::{self, Identity};

use super::outcome::warn;
use super::prepare::line;
use crate::cli::Options;

/// Warns where credentials, or root, are within reach of more than they need to be.
pub fn warn_of_exposure(config: &Config, options: &Options) {
    let open = options
        .addresses
        .iter()
        .any(|address| !address.ip().is_loopback());
    let role = config.role.as_ref();
    if role.is_some_and(imds_mock::role::Source::has_keys)
        && open
        && config.rules.allow_from.is_empty()
    {
        warn("the configured credentials are for whoever reaches this address");
    }
    if options.user.is_none() && options.command.is_none() && privileges::is_root() {
        warn("running as root; --user NAME gives that up once the ports are bound");
    }
    let is_nobody = |user: &String| user.split(':').next() == Some("nobody");
    if role.is_some_and(|role| role.spec().is_some())
        && options.user.as_ref().is_some_and(is_nobody)
    {
        warn("nobody is shared with other services; a role deserves a user of its own");
    }
}

/// Warns of what `identity` will not be able to read again, or write.
pub fn warn_of_lost_access(identity: &Identity, options: &Options) {
    let name = identity.name();
    if let Err(found) = options.source.load() {
        let found = line(&options.source, &found[0]);
        warn(format!(
            "a reload will fail, as {name} cannot read everything: {found}"
        ));
    }
    if let Some(path) = &options.state_file
        && let Err(e) = privileges::can_write_beside(path)
    {
        let path = path.display();
        warn(format!(
            "--state-file: {path}: {name} cannot write there: {e}; chown its directory"
        ));
    }
}
