"""Learn: known by the code that it runs, and by no other training's."""

import re
from pathlib import Path

from covoxel.training import data_parameters
from tasks.learn import LearnJob

IMPORT = re.compile(r"^from (covoxel\.training\.\w+)", re.MULTILINE)


def test_a_change_of_another_training_does_not_make_it_learn_again() -> None:
    folder = Path(data_parameters.__file__).parent
    used = {name for path in folder.glob("*.py") for name in IMPORT.findall(path.read_text())}
    assert "covoxel.training.seeds" in used
    assert {name for name in LearnJob.code if name.startswith("covoxel.training")} == used
