//! Everything below `iam/` and `identity-credentials/`: documents in EC2's bytes (reference/imds.md,
//! section 7), made once for each set of credentials and handed out unchanged until they change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::RoleSlot;
use super::dynamic::object;
use super::tree::{Leaf, Leaves, Live};
use crate::clock::Clock;
use crate::config::{Config, FailureCode, RoleSource, StaticRole, StaticState};
use crate::date::Date;
use crate::http::Entity;
use crate::role::{Current, RoleArn};

/// Static credentials without a date of their own are dated that far ahead, as on EC2.
const LIFETIME: Duration = Duration::from_secs(6 * 3600);
/// How often they are dated anew.
const REDATED_MS: i64 = 3600 * 1000;

const INFO: &str = "meta-data/iam/info";
const CREDENTIALS: &str = "meta-data/iam/security-credentials";
/// Asked first by newer SDKs; served, not listed (design, D4).
const EXTENDED: &str = "meta-data/iam/security-credentials-extended";
const IDENTITY: &str = "meta-data/identity-credentials/ec2";

/// Adds the documents of the role, if there is one, and of the instance identity role.
pub fn add(config: &Config, role: &RoleSlot, clock: &Arc<Clock>, leaves: &mut Leaves) {
    let documents = match &config.role {
        Some(RoleSource::Static(fixed)) => Some((&fixed.arn, of_static(config, fixed, clock))),
        Some(RoleSource::Sts(spec)) => Some((spec.arn(), of_role(config, spec.arn(), role, clock))),
        None => None,
    };
    if let Some((arn, documents)) = documents {
        let leaf = |pick: fn(&Documents) -> &Arc<Entity>| {
            let documents = documents.clone();
            Leaf::Live(Arc::new(move || pick(&documents()).clone()))
        };
        leaves.put(INFO, leaf(|documents| &documents.info));
        leaves.put(
            format!("{CREDENTIALS}/{}", arn.name()),
            leaf(|documents| &documents.credentials),
        );
        leaves.put(
            format!("{EXTENDED}/{}", arn.name()),
            leaf(|documents| &documents.extended),
        );
        leaves.hide(EXTENDED);
    }
    let account = config.facts.account_id.clone();
    let info = hourly(clock, move |updated| {
        let fields = [
            ("Code", json!("Success")),
            updated_field(updated),
            ("AccountId", json!(account)),
        ];
        document(fields, updated)
    });
    leaves.put(format!("{IDENTITY}/info"), Leaf::Live(info));
    let keys = made_up_keys(config);
    let credentials = hourly(clock, move |updated| {
        document(
            key_fields(
                keys.each_ref().map(String::as_str),
                updated,
                updated + LIFETIME,
            ),
            updated,
        )
    });
    leaves.put(
        format!("{IDENTITY}/security-credentials/ec2-instance"),
        Leaf::Live(credentials),
    );
}

/// The three documents that one set of credentials, or one failure, makes.
struct Documents {
    info: Arc<Entity>,
    credentials: Arc<Entity>,
    extended: Arc<Entity>,
}

type Field = (&'static str, Value);

impl Documents {
    /// `credentials` are the fields of the role document, in order.
    fn new(about: &About, info_code: &str, credentials: Vec<Field>, updated: Date) -> Documents {
        let mut extended = credentials.clone();
        extended.push(("AccountId", json!(about.account)));
        let info = [
            ("Code", json!(info_code)),
            updated_field(updated),
            ("InstanceProfileArn", json!(about.profile_arn)),
            ("InstanceProfileId", json!(about.profile_id)),
        ];
        Documents {
            info: Arc::new(document(info, updated)),
            credentials: Arc::new(document(credentials, updated)),
            extended: Arc::new(document(extended, updated)),
        }
    }
}

/// What the documents say of the role, whatever its credentials.
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

/// The fields of a role document that holds credentials: key id, secret and token.
fn key_fields(keys: [&str; 3], updated: Date, expires: Date) -> Vec<Field> {
    let [id, secret, token] = keys;
    vec![
        ("Code", json!("Success")),
        updated_field(updated),
        ("Type", json!("AWS-HMAC")),
        ("AccessKeyId", json!(id)),
        ("SecretAccessKey", json!(secret)),
        ("Token", json!(token)),
        ("Expiration", json!(expires.to_string())),
    ]
}

/// The fields of a role document that holds none; its status is 200 all the same.
fn failure_fields(code: &str, message: &str, updated: Date) -> Vec<Field> {
    vec![
        ("Code", json!(code)),
        ("Message", json!(message)),
        updated_field(updated),
    ]
}

fn updated_field(at: Date) -> Field {
    ("LastUpdated", json!(at.to_string()))
}

fn document(fields: impl IntoIterator<Item = Field>, updated: Date) -> Entity {
    let fields = fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    Entity::new("text/plain", Some(&updated.http()), object(fields))
}

type LiveDocuments = Arc<dyn Fn() -> Arc<Documents> + Send + Sync>;

/// Reads what the role has published; each is rendered by its first reader.
fn of_role(config: &Config, arn: &RoleArn, role: &RoleSlot, clock: &Arc<Clock>) -> LiveDocuments {
    let about = About::new(config, arn);
    let (role, clock) = (role.clone(), clock.clone());
    Arc::new(move || match role.get().map(|role| role.current()) {
        Some(Current::Valid(session)) => session.documents(|session| {
            let keys = [
                session.access_key_id(),
                session.secret_access_key(),
                session.token(),
            ];
            let updated = session.last_updated();
            let fields = key_fields(keys, updated, session.expires());
            Documents::new(&about, "Success", fields, updated)
        }),
        Some(Current::Failed(failure)) => failure.documents(|failure| {
            let updated = failure.last_updated;
            let fields = failure_fields(failure.code.as_str(), &failure.message, updated);
            Documents::new(&about, "Success", fields, updated)
        }),
        None => {
            let now = clock.now();
            let fields = failure_fields(FailureCode::Failed.as_str(), "not started yet", now);
            Arc::new(Documents::new(&about, "Success", fields, now))
        }
    })
}

fn of_static(config: &Config, fixed: &StaticRole, clock: &Arc<Clock>) -> LiveDocuments {
    let about = About::new(config, &fixed.arn);
    let fixed = fixed.clone();
    cached_hourly(clock, move |updated| {
        let (info_code, fields) = match &fixed.state {
            StaticState::Failing(failure) => {
                let info = match failure {
                    FailureCode::InstanceProfileNotFound => failure.as_str(),
                    _ => "Success",
                };
                (
                    info,
                    failure_fields(failure.as_str(), failure.message(), updated),
                )
            }
            StaticState::Valid {
                credentials,
                expiration,
            } => {
                let token = credentials
                    .token
                    .as_ref()
                    .map_or("", |token| token.expose());
                let secret = credentials.secret_access_key.expose();
                let keys = [&*credentials.access_key_id, secret, token];
                let expires = expiration.unwrap_or(updated + LIFETIME);
                ("Success", key_fields(keys, updated, expires))
            }
        };
        Documents::new(&about, info_code, fields, updated)
    })
}

/// A leaf made anew every hour of the instance's clock.
fn hourly(clock: &Arc<Clock>, make: impl Fn(Date) -> Entity + Send + Sync + 'static) -> Live {
    let cached = cached_hourly(clock, move |updated| Arc::new(make(updated)));
    Arc::new(move || (*cached()).clone())
}

/// What `make` makes of the last full hour since now, remembered until the next.
fn cached_hourly<T: Send + Sync + 'static>(
    clock: &Arc<Clock>,
    make: impl Fn(Date) -> T + Send + Sync + 'static,
) -> Arc<dyn Fn() -> Arc<T> + Send + Sync> {
    let clock = clock.clone();
    let loaded_ms = clock.unix_ms();
    let cache: Mutex<Option<(i64, Arc<T>)>> = Mutex::new(None);
    Arc::new(move || {
        let hour = (clock.unix_ms() - loaded_ms).div_euclid(REDATED_MS);
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((cached, made)) = &*cache
            && *cached == hour
        {
            return made.clone();
        }
        let made = Arc::new(make(Date::from_unix_ms(loaded_ms + hour * REDATED_MS)));
        *cache = Some((hour, made.clone()));
        made
    })
}

/// The instance identity role's key id, secret and token: of EC2's shape, worth nothing, stable.
fn made_up_keys(config: &Config) -> [String; 3] {
    let letters = |of: &str, length| config.facts.letters(of, length);
    [
        format!("ASIA{}", letters("identity-key", 16)),
        letters("identity-secret", 40),
        letters("identity-token", 340),
    ]
}
