//! The metadata port: EC2's protocol over an instance.

pub mod ec2;
