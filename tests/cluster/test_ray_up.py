"""`ray up` of the shipped cluster.yaml, a study, the loss of a spot machine and `down`, all on this machine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))
import lab


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_study_on_aws_outlives_a_spot_machine(tmp_path):
    if why_not := lab.missing():
        pytest.skip(why_not)
    done = subprocess.run(
        lab.command(Path(lab.__file__).with_name("aws.py"), tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, f"what each host did is in {tmp_path}"
    shutil.rmtree(tmp_path)
