//! A mock EC2 Instance Metadata Service. The rooms, from the ground up: [`http`] knows sockets,
//! [`config`] reads config.json, [`imds`] is the metadata service, [`service`] puts the parts
//! together. The two binaries, the tests and the benches use them.

pub mod clock;
pub mod config;
pub mod http;
pub mod imds;
pub mod log;
pub mod service;
