"""A cohort in disorder, end to end: the sound cases are done, and all else is named in the tables."""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from covoxel.io import read_labels, read_table, write_labels
from covoxel.spatial import Image

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]


def test_a_cohort_in_disorder_is_done_as_far_as_it_is_sound(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path, prefect_api: str
) -> None:
    cohort, output = make_cohort(cases=5, labelled=3), tmp_path / "out"
    labels = read_labels(cohort / "labels" / "c2.nii.gz")
    below = torch.where(labels.data == 0, torch.tensor(-1), labels.data)
    write_labels(cohort / "labels" / "c2.nii.gz", Image(below, labels.grid))
    (cohort / "images" / ("x" * 245 + ".nii")).symlink_to("nowhere")
    (cohort / "images" / "b\n\udcff.nii.gz").write_bytes(b"x")
    (cohort / "images" / "c5-copy.nii.gz").write_bytes((cohort / "images" / "c5.nii.gz").read_bytes())
    (cohort / "images" / "deep").mkdir()
    (cohort / "images" / "deep" / "c6.nii.gz").write_bytes((cohort / "images" / "c4.nii.gz").read_bytes())
    (cohort / "labels.tsv").write_bytes("index\tname\n3\tGyrus präzentral\n17\tB\n".encode("latin-1"))
    call = ["few-shot", "--cohort", cohort, "--output", output, "--settings", quick_settings, "--atlases", "c1,c2,c3"]
    status, _, text = invoke(*call)
    assert status == 3
    rows = read_table(output / "cases.tsv").set_index("id")
    done = sorted(rows.index[rows["status"] == "done"])
    assert done == ["c1", "c3", "c4", "c5"]
    assert rows.loc["c2", "reason"].startswith("c2.nii.gz: the label holds the value -1; label values must be whole")
    assert rows.loc["c5-copy", "reason"].startswith("c5-copy.nii.gz: the image is the same as that of case c5")
    assert "images/deep/c6.nii.gz" in rows.loc["images/deep", "reason"]
    assert {"x" * 245, "b\\x0a\\udcff"} <= set(rows.index[rows["status"] == "set aside"])
    volumes = read_table(output / "volumes.tsv")
    assert set(volumes["structure"]) == {"Gyrus präzentral", "B"}
    assert "Gyrus pr" in (output / "report" / "index.html").read_text()
    assert re.search(r"check: 9 entries seen, 4 cases, 5 excluded, 0 ignored on purpose", text)
    assert invoke(*call)[0] == 3
