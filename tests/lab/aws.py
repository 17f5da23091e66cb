"""Run `ray up` of cluster.yaml, a study that loses a spot machine, and platform.down, with moto in place of AWS.

python tests/lab/aws.py FOLDER, as the first process of a lab (lab.py). moto assigns the addresses of the lab's hosts,
so that each machine that Ray requests from EC2 is one of them; the hosts run before they are requested.
"""

import json
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import boto3
from lab import ROOT, Lab, reached, run, until

# The first address that moto assigns in the subnet that Ray prefers, that of the last availability zone.
FIRST = "172.31.48.4"
KEY = "ray-autoscaler_us-west-2"  # Ray's name of the key
STUDY = "taken"
DASHBOARD, MLFLOW = 8265, 5000
STARTED = time.monotonic()


def say(*words: object) -> None:
    print(f"+{time.monotonic() - STARTED:5.1f} s", *words, flush=True)


def moto(lab: Lab) -> dict[str, str]:
    """Start an AWS account that the machines of the lab can reach; return the environment variables for it."""
    environment = {
        "AWS_ENDPOINT_URL": f"http://{lab.gateway}:5055",
        "AWS_ACCESS_KEY_ID": "test",  # on a real machine the instance profile gives it
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    os.environ |= environment
    subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", lab.gateway, "-p", "5055"],
        stdin=subprocess.DEVNULL,
        stdout=(lab.folder / "moto.log").open("w"),
        stderr=subprocess.STDOUT,
    )
    until(lambda: reached(lab.gateway, 5055))
    return environment


def account(lab: Lab) -> dict[str, str]:
    """Create the shipped stack of the account, and the key pair that Ray would create; return the stack's outputs."""
    client = boto3.client("cloudformation")
    client.create_stack(
        StackName="platform-tune",
        TemplateBody=(ROOT / "cluster-aws-account.yaml").read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": "MyAddress", "ParameterValue": f"{lab.gateway}/32"}],
    )
    (deployed,) = client.describe_stacks(StackName="platform-tune")["Stacks"]
    key = lab.home / ".ssh" / f"{KEY}.pem"
    key.touch(mode=0o600)
    key.write_text(boto3.client("ec2").create_key_pair(KeyName=KEY)["KeyMaterial"])
    lab.let_in(key)  # as a new machine would
    return {output["OutputKey"]: output["OutputValue"] for output in deployed["Outputs"]}


def filled_in(lab: Lab, outputs: dict[str, str]) -> Path:
    """Write cluster.yaml as its user fills it in, with the few changes that the lab needs."""
    text = (ROOT / "cluster.yaml").read_text()
    for shipped, here in {
        "FILL-IN-YOUR-BUCKET": outputs["Bucket"],
        "sg-FILL-IN": outputs["SecurityGroup"],
        "  type: aws\n": "  type: aws\n  use_internal_ips: true\n",  # moto invents the public addresses
        "max_workers: 4": "max_workers: 2",  # as many as there are hosts
        "resources: {} ": "resources: {CPU: 1, GPU: 0} ",  # the hosts have no GPU
    }.items():
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    file = lab.folder / "cluster.yaml"
    file.write_text(text)
    return file


def machines(state: str = "running") -> dict[str, str]:
    """Return the node type of each machine of EC2 in a state, by its private address."""
    return {
        instance["PrivateIpAddress"]: next(
            tag["Value"] for tag in instance["Tags"] if tag["Key"] == "ray-user-node-type"
        )
        for reservation in boto3.client("ec2").describe_instances()["Reservations"]
        for instance in reservation["Instances"]
        if instance["State"]["Name"] == state
    }


def take_away(lab: Lab, address: str) -> None:
    """Take a spot machine away, as EC2 does when somebody else pays more."""
    ec2 = boto3.client("ec2")
    found = ec2.describe_instances(Filters=[{"Name": "private-ip-address", "Values": [address]}])
    ec2.terminate_instances(InstanceIds=[found["Reservations"][0]["Instances"][0]["InstanceId"]])
    lab.hosts[lab.addresses.index(address)].pull_the_plug()


def at_the_head(lab: Lab, command: str) -> str:
    """Run a command on the head, as a user who has logged in, and return its output."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    key, shell = lab.home / ".ssh" / f"{KEY}.pem", f"bash -ic {shlex.quote(command)} 2>/dev/null"
    return run("ssh", "-i", str(key), *options, f"ubuntu@{FIRST}", shell)


def prepare(folder: Path) -> tuple[Lab, dict[str, str], Path]:
    """Start four hosts and an account; return the lab, the stack's outputs and the filled-in cluster.yaml."""
    lab = Lab(folder, FIRST, 4)  # the head, two workers, and one in place of one of them
    lab.image(moto(lab))
    outputs = account(lab)
    lab.wait_for_hosts()
    os.chdir(ROOT)  # the user's working directory
    run("ray", "get-auth-token", "--generate")
    return lab, outputs, filled_in(lab, outputs)


def event_log(lab: Lab, bucket: str, kind: str) -> list[dict]:
    """Return the data of the study's events of a kind, from the event log on the head."""
    folder = lab.hosts[0].folder / "home" / ".platform-tune" / "s3" / bucket / "studies" / STUDY
    if not (file := folder / "journal.log").exists():
        return []
    whole = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    events = [json.loads(line.partition(" ")[2]) for line in whole]
    return [data for name, _, data in events if name == kind]


def study(lab: Lab, bucket: str, file: Path) -> None:
    """Run a study that loses a machine, and check that all its trials end without a missing epoch."""
    words = ["detector", "--cluster", str(file), "--name", STUDY, "--trials", "4", "--epochs", "4", "--confirm", "none"]
    words += ["--set", "image_size=64", "--set", "channels=32"]
    log = lab.folder / "study.log"
    process = subprocess.Popen(
        [sys.executable, "-m", "platform.tune", *words], stdout=log.open("w"), stderr=subprocess.STDOUT
    )
    until(lambda: process.poll() is not None or len(event_log(lab, bucket, "report")) >= 2, 600)
    assert process.poll() is None, log.read_text()
    assert sorted(machines().values()) == ["head", "worker", "worker"]
    say("workers came, and trials run on both of them")
    refused(["platform.down", str(file)], "no job may run on a cluster that is ended")
    take_away(lab, lab.addresses[1])
    say("one of them is taken away")
    code = process.wait(600)
    assert code == 0, log.read_text()
    say("the study has come to its end, on", sorted(machines()))

    kept = boto3.client("s3").get_object(Bucket=bucket, Key=f"studies/{STUDY}/result.json")["Body"].read()
    result = json.loads(kept)
    assert result["best"]["trial_id"]
    assert any(trial["moved"] for trial in result["trials"])  # the machine failed, not the trial
    assert not any(trial["retried"] for trial in result["trials"])
    assert result["spent"]["total"] > 0  # computed from the prices in cluster.yaml
    names = [trial["trial_id"] for trial in event_log(lab, bucket, "trial")]
    assert len(names) == 4
    for name in names:
        steps = [epoch["step"] for epoch in event_log(lab, bucket, "report") if epoch["trial_id"] == name]
        assert steps == list(range(1, len(steps) + 1)), (name, steps)


def refused(words: list[str], why: str, code: int = 2) -> None:
    """Run a command of this project that must fail with this reason and exit code."""
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == code, done.stdout
    assert why in done.stdout, done.stdout


def runs(database: Path) -> list[tuple[str, str]]:
    """Return name and status of the trials' runs in MLflow."""
    wanted = "select name, status from runs join tags using (run_uuid) where name like 'trial%' "
    wanted += "and key = 'study' and value = ? order by name"
    return sqlite3.connect(database).execute(wanted, [STUDY]).fetchall()


def main() -> None:
    lab, outputs, file = prepare(Path(sys.argv[1]))
    say("hosts and account are there")
    run("ray", "up", "-y", str(file), seconds=300)
    assert set(machines().values()) == {"head"}
    assert not reached(FIRST, DASHBOARD)
    say("the head is up, and no worker")
    # MLflow is there already, or about to be.
    until(lambda: at_the_head(lab, f"curl -s http://127.0.0.1:{MLFLOW}/health || true").strip() == "OK", 60)
    assert not reached(FIRST, MLFLOW)
    say("MLflow is up; it and the dashboard are out of reach from here")

    study(lab, outputs["Bucket"], file)

    brought = lab.folder / "brought"
    run(sys.executable, "-m", "platform.down", str(file), "--to", str(brought), seconds=300)
    assert machines() == {}
    assert len(runs(brought / "mlflow" / "mlflow.db")) == 4  # one a trial, whatever happened to it
    assert (brought / "studies" / "s3" / outputs["Bucket"] / "studies" / STUDY / "result.json").exists()
    say("all is brought and given back")


if __name__ == "__main__":
    main()
