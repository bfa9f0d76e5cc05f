//! A role as it is configured: which one, and where its credentials come from. Nobody outside this
//! room asks which of the sources it is.

use super::arn::RoleArn;
use super::delivery::ForV1;
use super::fixed::Static;
use super::settings::{FieldError, Settings, Warning};
use super::spec::Spec;

/// A role as configured, checked.
#[derive(Clone)]
pub struct Source(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Sts(Box<Spec>),
    Static(RoleArn, Static, ForV1),
}

impl Source {
    /// Credentials to be obtained from STS; with all errors, not only the first.
    pub fn sts(settings: Settings) -> Result<(Source, Vec<Warning>), Vec<FieldError>> {
        let (spec, warnings) = Spec::build(settings)?;
        Ok((Source(Kind::Sts(Box::new(spec))), warnings))
    }

    /// Credentials that are written down, or a failure. Version 1 gets the same or nothing.
    pub fn fixed(arn: RoleArn, what: Static, v1: ForV1) -> Source {
        Source(Kind::Static(arn, what, v1))
    }

    /// The role.
    pub fn arn(&self) -> &RoleArn {
        match &self.0 {
            Kind::Sts(spec) => spec.arn(),
            Kind::Static(arn, ..) => arn,
        }
    }

    /// What version 1 gets.
    pub(super) fn v1(&self) -> ForV1 {
        match &self.0 {
            Kind::Sts(spec) => spec.v1,
            Kind::Static(_, _, v1) => *v1,
        }
    }

    /// What STS is asked with, if it is asked: then there is something to guard, to be given
    /// bootstrap credentials, and that only a restart changes.
    pub fn spec(&self) -> Option<&Spec> {
        match &self.0 {
            Kind::Sts(spec) => Some(spec),
            Kind::Static(..) => None,
        }
    }

    /// Whether it hands out credentials that the configuration holds.
    pub fn has_keys(&self) -> bool {
        matches!(&self.0, Kind::Static(_, Static::Valid { .. }, _))
    }
}
