//! The ARN of a role: read once, so that inside nobody takes it apart again.

use std::fmt;

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleArn {
    text: String,
    /// Where the account and the name stand in `text`.
    account: usize,
    name: usize,
}

/// Why a text is no role ARN.
#[derive(Debug, PartialEq, Eq)]
pub enum BadArn {
    /// Not 20..=2048 characters (docs/reference/sts.md, "Request").
    Length(usize),
    /// Not of the form of an IAM ARN.
    Form,
    /// An IAM ARN, but of something else, such as a user or an instance profile.
    NotARole,
    /// An account that has not 12 digits.
    Account,
    /// A role name that IAM does not allow, or a path with blanks or control characters.
    Name,
}

impl fmt::Display for BadArn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a role ARN like arn:aws:iam::123456789012:role/NAME")?;
        match self {
            Self::Length(length) => write!(f, " of 20 to 2048 characters (it has {length})"),
            Self::Form => Ok(()),
            Self::NotARole => f.write_str(" (this names something else than a role)"),
            Self::Account => f.write_str(" (an account has 12 digits)"),
            Self::Name => f.write_str(
                " (a role name has 1 to 64 letters, digits or _+=,.@-, its path no blanks)",
            ),
        }
    }
}

impl std::error::Error for BadArn {}

impl RoleArn {
    /// Checks and takes apart `text`.
    pub fn parse(text: &str) -> Result<RoleArn, BadArn> {
        let length = text.chars().count();
        if !(20..=2048).contains(&length) {
            return Err(BadArn::Length(length));
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [_, partition, _, _, account, resource] = parts[..] else {
            return Err(BadArn::Form);
        };
        let is_partition = partition == "aws"
            || partition.strip_prefix("aws-").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            });
        if parts[0] != "arn" || !is_partition || parts[2] != "iam" || !parts[3].is_empty() {
            return Err(BadArn::Form);
        }
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadArn::Account);
        }
        let path_and_name = resource.strip_prefix("role/").ok_or(BadArn::NotARole)?;
        let (path, name) = path_and_name
            .rsplit_once('/')
            .unwrap_or(("", path_and_name));
        if !(1..=64).contains(&name.len())
            || !name.bytes().all(is_name_byte)
            || !path.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(BadArn::Name);
        }
        Ok(RoleArn {
            account: text.len() - resource.len() - 1 - account.len(),
            name: text.len() - name.len(),
            text: text.to_owned(),
        })
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, ...
    pub fn partition(&self) -> &str {
        self.text.split(':').nth(1).unwrap_or_default()
    }

    /// Twelve digits.
    pub fn account(&self) -> &str {
        &self.text[self.account..self.account + 12]
    }

    /// The last part of the path: what the metadata service lists.
    pub fn name(&self) -> &str {
        &self.text[self.name..]
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The characters of role and session names, `[\w+=,.@-]`.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_arn_gives_partition_account_and_name() {
        for (text, partition, account, name) in [
            (
                "arn:aws:iam::123456789012:role/app",
                "aws",
                "123456789012",
                "app",
            ),
            (
                "arn:aws-us-gov:iam::000000000001:role/a/b/My+Role",
                "aws-us-gov",
                "000000000001",
                "My+Role",
            ),
            (
                "arn:aws-cn:iam::123456789012:role/with:colon/r",
                "aws-cn",
                "123456789012",
                "r",
            ),
        ] {
            let arn = RoleArn::parse(text).unwrap();
            assert_eq!(
                (arn.partition(), arn.account(), arn.name()),
                (partition, account, name)
            );
            assert_eq!(arn.as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        let long = format!("arn:aws:iam::123456789012:role/{}", "p/".repeat(1020));
        for (text, error) in [
            ("arn:aws:iam::1:role/", BadArn::Account),
            ("role/app", BadArn::Length(8)),
            (&long, BadArn::Length(2071)),
            ("arn:aws:iam:123456789012:role/app", BadArn::Form),
            (
                "arn:aws:sts::123456789012:assumed-role/app/i-1",
                BadArn::Form,
            ),
            ("arn:aws:iam:us-east-1:123456789012:role/app", BadArn::Form),
            ("arn:gcp:iam::123456789012:role/app", BadArn::Form),
            ("arn:aws:iam::12345678901:role/application", BadArn::Account),
            ("arn:aws:iam::123456789012:user/app", BadArn::NotARole),
            (
                "arn:aws:iam::123456789012:instance-profile/app",
                BadArn::NotARole,
            ),
            ("arn:aws:iam::123456789012:role/", BadArn::Name),
            ("arn:aws:iam::123456789012:role/a b", BadArn::Name),
            ("arn:aws:iam::123456789012:role/a\n/b", BadArn::Name),
            ("arn:aws:iam::123456789012:role/ÄÖÜ", BadArn::Name),
        ] {
            assert_eq!(RoleArn::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
