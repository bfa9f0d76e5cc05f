//! The metadata port: EC2's protocol over an instance.

mod ec2;
mod service;

pub use ec2::{Answer, answer};
pub use service::MetadataService;
