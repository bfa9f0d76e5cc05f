//! Reads what its arguments name through the AWS SDK for Rust and prints one JSON object.
//! A path is its own key; `region` and `credentials` ask the SDK's providers. What fails is
//! null, with the reason on stderr. The endpoint comes from the environment, as for any SDK user.

use std::error::Error;

use aws_config::imds::{self, credentials::ImdsCredentialsProvider, region::ImdsRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_types::DateTime;
use serde_json::{Map, Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let config = ProviderConfig::without_region()
        .with_http_client(aws_smithy_http_client::Builder::new().build_http());
    let client = imds::Client::builder().configure(&config).build();

    let mut values = Map::new();
    for name in std::env::args().skip(1) {
        let value = read(&name, &config, &client).await.unwrap_or_else(|error| {
            eprintln!("{name}: {error:?}");
            Value::Null
        });
        values.insert(name, value);
    }
    println!("{}", Value::Object(values));
}

async fn read(
    name: &str,
    config: &ProviderConfig,
    client: &imds::Client,
) -> Result<Value, Box<dyn Error>> {
    match name {
        "region" => {
            let provider = ImdsRegionProvider::builder().configure(config).build();
            Ok(json!(
                provider.region().await.map(|region| region.to_string())
            ))
        }
        "credentials" => {
            let provider = ImdsCredentialsProvider::builder()
                .imds_client(client.clone())
                .build();
            let credentials = provider.provide_credentials().await?;
            Ok(json!({
                "access_key_id": credentials.access_key_id(),
                "secret_access_key": credentials.secret_access_key(),
                "token": credentials.session_token(),
                "expiration": credentials.expiry().map(|at| DateTime::from(at).to_string()),
            }))
        }
        path => Ok(json!(client.get(path).await?.as_ref())),
    }
}
