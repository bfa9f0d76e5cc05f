// Reads what its arguments name through the AWS SDK for JavaScript and prints one JSON object.
// A path is its own key; `credentials` asks the SDK's provider. What fails is null, with the
// reason on stderr. The endpoint comes from the environment, as for any SDK user.
import { MetadataService } from "@aws-sdk/ec2-metadata-service";
import { fromInstanceMetadata } from "@smithy/credential-provider-imds";

// No retries and no way back to version 1: a failure shows at once.
const service = new MetadataService({ retries: 0, ec2MetadataV1Disabled: true });

async function read(name) {
  if (name !== "credentials") return service.request(name, {});
  const found = await fromInstanceMetadata({ ec2MetadataV1Disabled: true })();
  return {
    access_key_id: found.accessKeyId,
    secret_access_key: found.secretAccessKey,
    token: found.sessionToken,
    expiration: found.expiration.toISOString().replace(".000Z", "Z"),
  };
}

const values = {};
for (const name of process.argv.slice(2)) {
  values[name] = await read(name).catch((error) => {
    console.error(`${name}: ${error}`);
    return null;
  });
}
console.log(JSON.stringify(values));
