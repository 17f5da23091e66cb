"""The files for clusters: checked against Ray's and EC2's own schemas, and `ray up` of them without a cloud."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
import yaml

ROOT = Path(__file__).parents[2]
AWS, ONPREM, ACCOUNT = (ROOT / name for name in ("cluster.yaml", "cluster-onprem.yaml", "cluster-aws-account.yaml"))
BOTH = pytest.mark.parametrize("file", [AWS, ONPREM], ids=lambda file: file.stem)


class Recorder:
    """Stands in for the subprocess module: what `ray up` would run through ssh and rsync is only written down."""

    PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT

    def __init__(self):
        self.commands: list[str] = []

    def check_call(self, command, *_, **__):
        self.commands.append(" ".join(command) if isinstance(command, list) else command)
        return 0

    def check_output(self, command, *_, **__):
        self.check_call(command)
        return b""

    def position(self, *parts: str) -> int:
        """Return the position of the only command that has all these parts."""
        (found,) = [n for n, command in enumerate(self.commands) if all(part in command for part in parts)]
        return found


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home of its own, with a token; commands that start in the repository's root."""
    monkeypatch.chdir(ROOT)
    for key, value in {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("f" * 64)
    return tmp_path


@pytest.fixture
def aws(home, monkeypatch):
    """An AWS account within this process."""
    from moto import mock_aws
    from ray.autoscaler._private.aws import utils

    for key in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(key, raising=False)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with mock_aws():
        utils.resource_cache.cache_clear()
        utils.client_cache.cache_clear()
        yield


@pytest.fixture
def stack(aws) -> dict[str, str]:
    """The account's stack, deployed: its outputs."""
    client = boto3.client("cloudformation")
    client.create_stack(
        StackName="platform-tune",
        TemplateBody=ACCOUNT.read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": "MyAddress", "ParameterValue": "203.0.113.7/32"}],
    )
    (deployed,) = client.describe_stacks(StackName="platform-tune")["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in deployed["Outputs"]}


def template() -> dict:
    """The account's stack as it is written, with CloudFormation's own tags."""
    from cfnlint.decode.cfn_yaml import loads

    return loads(ACCOUNT.read_text())


def filled_in(stack: dict[str, str]) -> dict:
    """cluster.yaml as its user has filled it in."""
    text = AWS.read_text().replace("FILL-IN-YOUR-BUCKET", stack["Bucket"])
    text = text.replace("sg-FILL-IN", stack["SecurityGroup"])
    assert "FILL-IN" not in text
    return yaml.safe_load(text)


def up(config: dict, name: str) -> tuple[dict, Recorder]:
    """`ray up`, with nothing behind it but what moto answers: the resolved file, and the commands."""
    from ray.autoscaler._private.commands import _bootstrap_config, get_or_create_head_node

    resolved, recorder = _bootstrap_config(config, no_config_cache=True), Recorder()
    get_or_create_head_node(
        resolved, name, no_restart=False, restart_only=False, yes=True, override_cluster_name=None, _runner=recorder
    )
    return resolved, recorder


def instances() -> list[SimpleNamespace]:
    return [
        SimpleNamespace(
            type=instance["InstanceType"],
            spot=instance.get("InstanceLifecycle") == "spot",
            groups=[group["GroupId"] for group in instance["SecurityGroups"]],
            profile=instance["IamInstanceProfile"]["Arn"].split("/")[-1],
            image=instance["ImageId"],
        )
        for reservation in boto3.client("ec2").describe_instances()["Reservations"]
        for instance in reservation["Instances"]
    ]


# What is written in the files.


@BOTH
def test_ray_accepts_it(file, home):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(file.read_text())))


@BOTH
def test_every_key_is_known(file):
    # Ray's own check lets some unknown keys pass; a typo would go unnoticed.
    import json

    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())["properties"]
    node_type = schema["available_node_types"]["patternProperties"][".*"]["properties"]
    config = yaml.safe_load(file.read_text())
    assert config.keys() <= schema.keys()
    for section in ("provider", "auth"):
        assert config[section].keys() <= schema[section]["properties"].keys()
    for entry in config.get("available_node_types", {}).values():
        assert entry.keys() <= node_type.keys()


def test_ec2_knows_every_setting_of_a_machine():
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    request = get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for entry in yaml.safe_load(AWS.read_text())["available_node_types"].values():
        wanted = entry["node_config"] | {"MinCount": 1, "MaxCount": 1}
        assert ParamValidator().validate(wanted, request).generate_report() == ""
    wrong = wanted | {"ImageID": "x", "InstanceMarketOptions": {"Markettype": "spot"}}
    assert ParamValidator().validate(wrong, request).generate_report().count("Unknown parameter") == 2


@BOTH
def test_at_most_three_values_are_filled_in_and_all_stand_at_the_top(file):
    lines = [n for n, line in enumerate(file.read_text().splitlines()) if "FILL-IN" in line]
    assert 0 < len(lines) <= 3
    assert max(lines) < 12


@BOTH
def test_it_is_short_and_our_commands_find_their_values(file):
    lines = file.read_text().splitlines()
    assert len(lines) < 120
    assert max(map(len, lines)) <= 120
    config = yaml.safe_load(file.read_text())
    assert config["metadata"]["storage"]
    assert config["metadata"].get("prices", {}).keys() <= config.get("available_node_types", {}).keys()


@BOTH
def test_nothing_listens_to_the_world(file):
    text = file.read_text()
    assert "0.0.0.0" not in text
    assert "--dashboard-host=127.0.0.1" in text
    assert "mlflow server --host 127.0.0.1 " in text
    assert "RAY_AUTH_MODE=token" in text


@BOTH
def test_everything_mounted_is_shipped_or_the_token(file):
    for there, here in yaml.safe_load(file.read_text())["file_mounts"].items():
        assert (there, here) == ("~/.ray/auth_token",) * 2 or (ROOT / here).is_file()


def test_both_kinds_of_cluster_have_the_same_environment():
    aws, onprem = (yaml.safe_load(file.read_text()) for file in (AWS, ONPREM))
    for section in ("file_mounts", "setup_commands", "head_setup_commands", "worker_start_ray_commands"):
        assert aws[section] == onprem[section]
    assert aws["head_start_ray_commands"][:-1] == onprem["head_start_ray_commands"][:-1]  # MLflow


# The account.


def test_only_ones_own_address_reaches_ssh(stack):
    ec2 = boto3.client("ec2")
    (group,) = ec2.describe_security_groups(GroupIds=[stack["SecurityGroup"]])["SecurityGroups"]
    from_address, among = sorted(group["IpPermissions"], key=lambda rule: rule["IpProtocol"], reverse=True)
    assert (from_address["FromPort"], from_address["ToPort"]) == (22, 22)
    assert [ranged["CidrIp"] for ranged in from_address["IpRanges"]] == ["203.0.113.7/32"]
    assert among["IpProtocol"] == "-1"
    assert among["IpRanges"] == []
    assert [pair["GroupId"] for pair in among["UserIdGroupPairs"]] == [stack["SecurityGroup"]]


def test_the_bucket_is_private_and_outlives_the_stack(stack):
    bucket = template()["Resources"]["Bucket"]  # moto makes the bucket, but takes no notice of who may see it
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert list(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == [True] * 4
    s3 = boto3.client("s3")
    assert s3.get_bucket_encryption(Bucket=stack["Bucket"])["ServerSideEncryptionConfiguration"]["Rules"]
    boto3.client("cloudformation").delete_stack(StackName="platform-tune")
    s3.head_bucket(Bucket=stack["Bucket"])


def test_the_machines_may_use_that_bucket_and_no_other(stack):
    iam = boto3.client("iam")

    def policies_of(profile: str) -> dict:
        (role,) = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        return {  # moto keeps them as text
            name: yaml.safe_load(iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"])
            for name in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        }

    policies, of_workers = policies_of("platform-tune"), policies_of("platform-tune-worker")
    assert of_workers == {"studies": policies["studies"]}
    arn = f"arn:aws:s3:::{stack['Bucket']}"
    assert {statement["Resource"] for statement in policies["studies"]["Statement"]} == {arn, f"{arn}/*"}
    everywhere = [rule for policy in policies.values() for rule in policy["Statement"] if rule["Resource"] == "*"]
    assert not any("s3:" in str(rule["Action"]) or "PassRole" in str(rule["Action"]) for rule in everywhere)


def test_the_template_has_no_faults():
    from cfnlint.api import lint_all

    nodes = yaml.parse(ACCOUNT.read_text())
    assert not any(isinstance(node, yaml.AliasEvent) for node in nodes), "CloudFormation knows no aliases"
    assert [match for match in lint_all(ACCOUNT.read_text()) if match.rule.severity != "informational"] == []


@pytest.mark.parametrize(
    ("address", "accepted"),
    [("203.0.113.7/32", True), ("10.0.0.0/8", True), ("0.0.0.0/0", False), ("128.0.0.0/1", False), ("1.2.3.4", False)],
)
def test_the_whole_world_is_refused(address, accepted):
    pattern = template()["Parameters"]["MyAddress"]["AllowedPattern"]
    assert bool(re.search(pattern, address)) == accepted


# ray up.


def test_up_on_aws(stack):
    from ray.autoscaler._private.providers import _get_node_provider

    config, recorder = up(filled_in(stack), "cluster.yaml")
    (head,) = instances()
    group = [stack["SecurityGroup"]]
    assert (head.type, head.spot, head.groups, head.profile) == ("m5.xlarge", False, group, "platform-tune")
    assert head.image.endswith("ubuntu-24.04/latest/ami-id")
    head_type, worker_type = (config["available_node_types"][name] for name in ("head", "worker"))
    assert (head_type["resources"]["CPU"], worker_type["resources"]["GPU"]) == (0, 1)
    assert (worker_type["min_workers"], config["provider"]["cache_stopped_nodes"]) == (0, False)

    token, listed = (recorder.position("rsync", part) for part in ("auth_token", "requirements.txt"))
    secret = recorder.position("chmod 600 ~/.ray/auth_token")
    made = recorder.position("cmp -s requirements.txt", "uv pip install", "-r requirements.txt")
    path = recorder.position("platform/env/bin:$PATH", "RAY_AUTH_MODE=token")
    found = recorder.position("RAY_ADDRESS=auto", "MLFLOW_TRACKING_URI=http://127.0.0.1:5000")
    mlflow = recorder.position("mlflow server --host 127.0.0.1 ", "flock -n", "setsid")
    started = recorder.position("ray start --head", "--dashboard-host=127.0.0.1", "--autoscaling-config")
    assert max(token, listed) < secret < made < path < found < mlflow < started

    # Workers, as the head's autoscaler starts them.
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    provider.create_node(worker_type["node_config"], {"ray-node-type": "worker", "ray-user-node-type": "worker"}, 1)
    _, worker = instances()
    assert (worker.type, worker.spot, worker.groups) == ("g4dn.xlarge", True, group)
    assert worker.profile == "platform-tune-worker"
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    assert not any(group["GroupName"].startswith("ray-autoscaler") for group in groups)  # Ray's own, open to the world


@BOTH
def test_the_head_alone_is_reported_of_mlflow(file, home):
    from ray.autoscaler._private.util import prepare_config

    config = prepare_config(yaml.safe_load(file.read_text()))
    on_workers = " ".join(config["worker_setup_commands"] + config["worker_start_ray_commands"])
    assert "MLFLOW" not in on_workers
    assert "RAY_ADDRESS" not in on_workers
    assert "platform/env/bin:$PATH" in on_workers
