"""True labels are found in every format, by one documented order, and nowhere else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data_catalog import CohortError, EvaluationLabels


def test_true_labels_in_any_format_are_found_in_one_order(tmp_path: Path) -> None:
    for name in ("a.NII.GZ", "b.nrrd", "c.mha", "c.nii", "d_dseg.nii.gz", "d.nrrd", "e_dseg.mgz"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "f.nii.gz").symlink_to("nowhere")
    truth = EvaluationLabels(tmp_path)
    assert {case: truth.path(case).name for case in "abcde"} == {
        "a": "a.NII.GZ",
        "b": "b.nrrd",
        "c": "c.nii",
        "d": "d.nrrd",
        "e": "e_dseg.mgz",
    }
    assert "f" not in truth


def test_a_closed_folder_of_true_labels_is_one_sentence(tmp_path: Path, close: Callable[[Path], None]) -> None:
    close(tmp_path)
    with pytest.raises(CohortError, match=r"the folder cannot be read: Permission denied"):
        EvaluationLabels(tmp_path)
