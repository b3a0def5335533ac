"""Prints, as JSON, what Amazon's own client sees of machines and Auto Scaling groups.

    boto3_look.py --endpoint URL --region R [--account A] instances [--tag KEY=VALUE]...
    boto3_look.py --endpoint URL --region R [--account A] group NAME
    boto3_look.py --endpoint URL --region R [--account A] groups

`--account` goes to moto in a header of its own. Of machines all are shown, terminated ones too.
"""

import argparse
import json

import boto3
from botocore.config import Config


def client(args, service):
    made = boto3.client(
        service,
        endpoint_url=args.endpoint,
        region_name=args.region,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
        config=Config(connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 1}, proxies={}),
    )
    if args.account:

        def name_account(request, **_):
            request.headers["x-moto-account-id"] = args.account

        made.meta.events.register("before-sign.*.*", name_account)
    return made


def tags(pairs):
    return {tag["Key"]: tag["Value"] for tag in pairs}


def machine(ec2, found):
    attribute = ec2.describe_instance_attribute(InstanceId=found["InstanceId"], Attribute="userData")
    volumes = [device["Ebs"]["VolumeId"] for device in found.get("BlockDeviceMappings", []) if "Ebs" in device]
    return {
        "id": found["InstanceId"],
        "state": found["State"]["Name"],
        "state_reason": found.get("StateReason", {}).get("Code") or None,
        "type": found["InstanceType"],
        "image": found["ImageId"],
        "zone": found["Placement"]["AvailabilityZone"],
        "subnet": found.get("SubnetId"),
        "market": found.get("InstanceLifecycle", "on-demand"),
        "key": found.get("KeyName"),
        "profile": found.get("IamInstanceProfile", {}).get("Arn"),
        "security_groups": sorted(group["GroupId"] for group in found.get("SecurityGroups", [])),
        "metadata": {
            "tokens": found.get("MetadataOptions", {}).get("HttpTokens"),
            "hops": found.get("MetadataOptions", {}).get("HttpPutResponseHopLimit"),
        },
        "volumes": [
            {"type": volume["VolumeType"], "size": volume["Size"], "encrypted": volume["Encrypted"]}
            for volume in (ec2.describe_volumes(VolumeIds=volumes)["Volumes"] if volumes else [])
        ],
        "user_data": attribute.get("UserData", {}).get("Value"),
        "tags": tags(found.get("Tags", [])),
    }


def instances(args):
    ec2 = client(args, "ec2")
    wanted = [tag.partition("=") for tag in args.tag]
    filters = [{"Name": f"tag:{key}", "Values": [value]} for key, _, value in wanted]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    found = [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]
    return [machine(ec2, one) for one in sorted(found, key=lambda one: one["InstanceId"])]


def group(found):
    return {
        "name": found["AutoScalingGroupName"],
        "min": found["MinSize"],
        "max": found["MaxSize"],
        "desired": found["DesiredCapacity"],
        "suspended": sorted(process["ProcessName"] for process in found.get("SuspendedProcesses", [])),
        "tags": tags(found.get("Tags", [])),
        "members": [
            {
                "id": member["InstanceId"],
                "lifecycle": member["LifecycleState"],
                "health": member["HealthStatus"],
                "protected": member["ProtectedFromScaleIn"],
            }
            for member in sorted(found["Instances"], key=lambda member: member["InstanceId"])
        ],
    }


def groups(args):
    pages = client(args, "autoscaling").get_paginator("describe_auto_scaling_groups").paginate()
    return [group(found) for page in pages for found in page["AutoScalingGroups"]]


def one_group(args):
    found = client(args, "autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[args.name])
    return group(found["AutoScalingGroups"][0]) if found["AutoScalingGroups"] else None


def main():
    parser = argparse.ArgumentParser(description="What Amazon's own client sees, as JSON.")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--account")
    what = parser.add_subparsers(required=True)
    looks = what.add_parser("instances")
    looks.add_argument("--tag", action="append", default=[])
    looks.set_defaults(look=instances)
    looks = what.add_parser("group")
    looks.add_argument("name")
    looks.set_defaults(look=one_group)
    what.add_parser("groups").set_defaults(look=groups)
    args = parser.parse_args()
    print(json.dumps(args.look(args), indent=1))


main()
