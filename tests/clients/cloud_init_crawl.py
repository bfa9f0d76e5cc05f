"""Runs cloud-init's own DataSourceEc2 and prints what it found as JSON.

For the system's Python, where Debian's package cloud-init lives. Arguments: URL of the
metadata service, the SMBIOS UUID this machine shall seem to have, a directory to write in.
"""

import base64
import json
import logging
import sys
from unittest import mock

from cloudinit import distros, dmi, helpers
from cloudinit.sources.DataSourceEc2 import DataSourceEc2

url, uuid, directory = sys.argv[1:]
# cloud-init speaks version 2 where both the UUID and the serial number begin with `ec2`.
smbios = {"system-uuid": uuid, "system-serial-number": uuid}


class Warnings(logging.Handler):
    """cloud-init reports a failed crawl as a warning and goes on without the data."""

    found = []

    def emit(self, record):
        self.found.append(record.getMessage())


logging.getLogger().addHandler(Warnings(logging.WARNING))

paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory})
distro = distros.fetch("debian")("debian", {}, paths)
settings = {
    "datasource": {
        "Ec2": {"metadata_urls": [url], "strict_id": False, "max_wait": 10, "timeout": 5}
    }
}
with mock.patch.object(dmi, "read_dmi_data", smbios.get):
    source = DataSourceEc2(settings, distro, paths)
    if not source.get_data():
        sys.exit(f"DataSourceEc2 found nothing at {url}: {Warnings.found}")
    # Bytes as they came; cloud-init says "" where there were none.
    user_data = source.get_userdata_raw() or b""
    print(
        json.dumps(
            {
                "cloud_name": source.cloud_name,
                "api_version": source._crawled_metadata["_metadata_api_version"],
                "used_a_token": source._api_token is not None,
                "instance_id": source.get_instance_id(),
                "hostname": source.get_hostname(fqdn=True).hostname,
                "public_ssh_keys": source.get_public_ssh_keys(),
                "availability_zone": source.availability_zone,
                "region": source.region,
                "identity": source.identity,
                "meta_data": source.metadata,
                "user_data": base64.b64encode(user_data).decode(),
                "warnings": Warnings.found,
            }
        )
    )
