//! Everything below `iam/` and `identity-credentials/`: documents in EC2's bytes
//! (docs/reference/metadata.md, "Credentials documents"), made once for each set of credentials and
//! handed out unchanged until they change.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Value, json};

use super::identity::object;
use super::meaning::Meaning;
use super::tree::{Found, Leaf, Leaves};
use crate::clock::Clock;
use crate::config::Config;
use crate::date::Date;
use crate::http::Entity;
use crate::role::{
    Credentials, Current, FailureCode, Fixed, Role, RoleArn, RoleDelivery, Secret, Static,
};

const INFO: &str = "meta-data/iam/info";
const CREDENTIALS: &str = "meta-data/iam/security-credentials";
/// Asked first by newer SDKs; served, not listed (docs/architecture.md, D4).
const EXTENDED: &str = "meta-data/iam/security-credentials-extended";
const IDENTITY: &str = "meta-data/identity-credentials/ec2";

/// Adds the documents of the role, if there is one, and of the instance identity role.
pub fn add(config: &Config, role: Option<&Arc<Role>>, clock: &Arc<Clock>, leaves: &mut Leaves) {
    if let Some(role) = role {
        let arn = role.source().arn();
        let about = About::new(config, arn);
        let (name, role, clock) = (arn.name(), role.clone(), clock.clone());
        let documents = rendered(
            move |delivery| role.current(clock.now(), delivery),
            move |current| Documents::new(&about, current),
        );
        // Of the instance profile, and so the same for both versions.
        let info = documents.clone();
        let info = move |_| info(RoleDelivery::V2).info.clone();
        leaves.put(INFO, Leaf::Live(Arc::new(info)));
        put(leaves, format!("{CREDENTIALS}/{name}"), &documents, |of| {
            &of.credentials
        });
        put(leaves, format!("{EXTENDED}/{name}"), &documents, |of| {
            &of.extended
        });
        leaves.hide(EXTENDED);
    }
    let [v1, v2] = ["-v1", ""].map(|mark| Fixed::new(made_up(config, mark), clock.now()));
    let (account, clock) = (config.facts.account_id.clone(), clock.clone());
    let documents = rendered(
        move |delivery| match delivery {
            RoleDelivery::V1 => v1.current(clock.now()),
            RoleDelivery::V2 => v2.current(clock.now()),
        },
        move |current| IdentityDocuments::new(&account, current),
    );
    put(leaves, format!("{IDENTITY}/info"), &documents, |of| {
        &of.info
    });
    let path = format!("{IDENTITY}/security-credentials/ec2-instance");
    put(leaves, path, &documents, |of| &of.credentials);
}

type Live<D> = Arc<dyn Fn(RoleDelivery) -> Arc<D> + Send + Sync>;

/// What was rendered last, and of what.
type Latest<D> = RwLock<Option<(Current, Arc<D>)>>;

/// What `render` makes of what is handed out, made by its first reader and remembered until
/// something else is; for each version by itself.
fn rendered<D: Send + Sync + 'static>(
    current: impl Fn(RoleDelivery) -> Current + Send + Sync + 'static,
    render: impl Fn(&Current) -> D + Send + Sync + 'static,
) -> Live<D> {
    let latest: [Latest<D>; 2] = Default::default();
    Arc::new(move |delivery| {
        let current = current(delivery);
        let latest = &latest[delivery as usize];
        if let Some((of, documents)) = &*latest.read().unwrap_or_else(PoisonError::into_inner)
            && of.is(&current)
        {
            return documents.clone();
        }
        let documents = Arc::new(render(&current));
        let mut latest = latest.write().unwrap_or_else(PoisonError::into_inner);
        *latest = Some((current, documents.clone()));
        documents
    })
}

/// Declares one of the documents.
fn put<D: Send + Sync + 'static>(
    leaves: &mut Leaves,
    path: impl Into<String>,
    documents: &Live<D>,
    pick: fn(&D) -> &Found,
) {
    let documents = documents.clone();
    let live = move |delivery| pick(&documents(delivery)).clone();
    leaves.put(path, Leaf::Live(Arc::new(live)));
}

/// The three documents that one set of credentials, or one failure, makes.
struct Documents {
    info: Found,
    credentials: Found,
    extended: Found,
}

/// What they say of the role, whatever its credentials.
struct About {
    account: String,
    profile_arn: String,
    profile_id: String,
}

impl About {
    fn new(config: &Config, arn: &RoleArn) -> About {
        let (partition, account, name) = (arn.partition(), arn.account(), arn.name());
        About {
            account: account.to_owned(),
            profile_arn: format!("arn:{partition}:iam::{account}:instance-profile/{name}"),
            profile_id: format!("AIPA{}", config.facts.letters("profile", 17)),
        }
    }
}

impl Documents {
    fn new(about: &About, current: &Current) -> Documents {
        let code = match current {
            Current::Failed(failure) if failure.code == FailureCode::InstanceProfileNotFound => {
                failure.code.as_str()
            }
            _ => "Success",
        };
        let (credentials, updated) = fields(current);
        let mut extended = credentials.clone();
        extended.push(("AccountId", json!(about.account)));
        let info = [
            ("Code", json!(code)),
            updated_field(updated),
            ("InstanceProfileArn", json!(about.profile_arn)),
            ("InstanceProfileId", json!(about.profile_id)),
        ];
        Documents {
            info: document(info, updated).into(),
            credentials: keys(current, document(credentials, updated)),
            extended: keys(current, document(extended, updated)),
        }
    }
}

/// The documents of the instance identity role.
struct IdentityDocuments {
    info: Found,
    credentials: Found,
}

impl IdentityDocuments {
    fn new(account: &str, current: &Current) -> IdentityDocuments {
        let (credentials, updated) = fields(current);
        let info = [
            ("Code", json!("Success")),
            updated_field(updated),
            ("AccountId", json!(account)),
        ];
        IdentityDocuments {
            info: document(info, updated).into(),
            credentials: keys(current, document(credentials, updated)),
        }
    }
}

/// The instance identity role's keys: of EC2's shape, worth nothing, stable, others for each `mark`.
fn made_up(config: &Config, mark: &str) -> Static {
    let letters = |of: &str, length| config.facts.letters(&format!("{of}{mark}"), length);
    Static::Valid {
        credentials: Arc::new(Credentials {
            access_key_id: format!("ASIA{}", letters("identity-key", 16)),
            secret_access_key: Secret::new(letters("identity-secret", 40)),
            token: Some(Secret::new(letters("identity-token", 340))),
        }),
        expiration: None,
    }
}

type Field = (&'static str, Value);

/// The fields of a role document, in order, and when it was made. One without credentials has
/// status 200 all the same.
fn fields(current: &Current) -> (Vec<Field>, Date) {
    match current {
        Current::Valid(session) => {
            let updated = session.last_updated();
            let fields = vec![
                ("Code", json!("Success")),
                updated_field(updated),
                ("Type", json!("AWS-HMAC")),
                ("AccessKeyId", json!(session.access_key_id())),
                ("SecretAccessKey", json!(session.secret_access_key())),
                ("Token", json!(session.token())),
                ("Expiration", json!(session.expires().to_string())),
            ];
            (fields, updated)
        }
        Current::Failed(failure) => {
            let fields = vec![
                ("Code", json!(failure.code.as_str())),
                ("Message", json!(failure.message)),
                updated_field(failure.last_updated),
            ];
            (fields, failure.last_updated)
        }
    }
}

/// A role document, which holds keys unless it says why there are none.
fn keys(current: &Current, entity: Arc<Entity>) -> Found {
    let meaning = match current {
        Current::Valid(_) => Meaning::Keys,
        Current::Failed(_) => Meaning::Nothing,
    };
    Found { entity, meaning }
}

fn updated_field(at: Date) -> Field {
    ("LastUpdated", json!(at.to_string()))
}

fn document(fields: impl IntoIterator<Item = Field>, updated: Date) -> Arc<Entity> {
    let fields = fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    let produced = updated.http();
    Arc::new(Entity::new("text/plain", Some(&produced), object(fields)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn documents_are_made_once_for_each_change() {
        let (clock, made) = (Arc::new(Clock::default()), Arc::new(AtomicUsize::new(0)));
        let fixed = Static::failing(FailureCode::Failed, "app");
        let fixed = Fixed::new(fixed, clock.now());
        let (time, count) = (clock.clone(), made.clone());
        let live = rendered(
            move |_| fixed.current(time.now()),
            move |_| count.fetch_add(1, Ordering::Relaxed),
        );
        for hour in 0..3 {
            let live = || live(RoleDelivery::V2);
            assert_eq!(*live(), hour);
            assert!(Arc::ptr_eq(&live(), &live()));
            clock.advance(3600 * 1000);
        }
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }
}
