//! A mock EC2 Instance Metadata Service. The rooms, from the ground up: [`http`] knows sockets,
//! [`config`] reads config.json, [`role`] keeps a role's credentials valid, [`instance`] is one
//! simulated instance, [`observe`] watches its clients, [`metadata`] and [`admin`] are the two
//! services, [`mock`] puts the parts together. The two binaries, the tests and the benches use
//! them.

// Tests make small numbers of random ones.
#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_sign_loss))]

pub mod access;
pub mod admin;
pub mod clock;
pub mod config;
pub mod date;
pub mod http;
pub mod instance;
pub mod log;
pub mod metadata;
pub mod mock;
pub mod observe;
pub mod privileges;
pub mod region;
pub mod role;
pub mod version;
