"""Vocabularies: every value that may occur is known, `ignore` is no structure, and a bad table ends nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_catalog import check_case, open_cohort
from data_catalog.vocabulary import Vocabulary, vocabulary_from_tables, vocabulary_of

Scan = Callable[..., Path]

BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


@pytest.mark.parametrize(
    ("labels", "order", "names", "ignore"),
    [
        (BRATS, [1, 2, 3], {1: "whole", 2: "core", 3: "enhancing"}, None),
        (BRATS, None, {1: "whole", 2: "core", 3: "enhancing"}, None),
        (BRATS, [3, 1, 2], {1: "core", 2: "enhancing", 3: "whole"}, None),
        (BRATS, [1, 2], {1: "whole", 2: "core", 3: "enhancing"}, None),
        (BRATS | {"ignore": 4}, [1, 2, 3], {1: "whole", 2: "core", 3: "enhancing"}, 4),
        (
            {"background": [0], "kidney": [1, 2], "tumour": [2], "cyst": 5},
            None,
            {1: "kidney", 2: "tumour", 5: "cyst"},
            None,
        ),
        ({"background": 0, "A": 1, "Ignore": 7}, None, {1: "A"}, 7),
        ({"background": 0, "all": [1, 2, 4], "ignore": 4}, [1], {1: "all", 2: "all"}, 4),
        ({"background": 0, "A": 1, "ignore": [2]}, None, {1: "A"}, 2),
        ({"0": "background", "1": "Anterior", "10": "Posterior"}, None, {1: "Anterior", 10: "Posterior"}, None),
        ({"0": "background", "1": "A", "2": "ignore"}, None, {1: "A"}, 2),
        ({"A": 1.0, "B": "2", "C": -1, "D": True, "E": 2**40, "F": {}, "G": None}, None, {1: "A", 2: "B"}, None),
        ({"": 3, "x" * 900: 4}, None, {3: "3", 4: "x" * 500}, None),
        (["A"], None, {}, None),
        ("A", [1], {}, None),
    ],
)
def test_labels_of_a_description(labels: object, order: object, names: dict[int, str], ignore: int | None) -> None:
    assert vocabulary_of(labels, order) == Vocabulary(names, ignore)


@pytest.mark.parametrize("listing", [{}, {"training": []}])
def test_the_value_to_ignore_may_occur_and_is_no_structure(
    tmp_path: Path, scan: Scan, label: Scan, listing: dict[str, object]
) -> None:
    scan(tmp_path / "imagesTr" / "a_0000.nii.gz")
    label(tmp_path / "labelsTr" / "a.nii.gz", values=(1, 2, 3, 4))
    content = {"file_ending": ".nii.gz", "labels": BRATS | {"ignore": 4}, **listing}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cohort = open_cohort(tmp_path)
    (case,) = cohort.with_atlases(["a"]).cases
    checked = check_case(case, tuple(cohort.label_names), 3, cohort.ignore)
    assert (checked.reason, checked.label_values, checked.holds_ignore) == (None, (1, 2, 3), True)
    assert check_case(case, tuple(cohort.label_names), 3).reason == (
        "a.nii.gz: the label holds the value 4; known values are 1, 2, 3"
    )


def test_labels_of_a_decathlon_task_with_regions(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "imagesTr" / "a.nii.gz")
    content = {"training": [{"image": "imagesTr/a.nii.gz"}], "labels": {**BRATS, "ignore": 9}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cohort = open_cohort(tmp_path)
    assert (cohort.label_names, cohort.ignore) == ({1: "whole", 2: "core", 3: "enhancing"}, 9)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("name", ["labels.tsv", "dseg.tsv"])
def test_names_in_any_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes("index\tname\r\n0\tx\r\n2\tZelle ß\r\n1.0\t\r\n-3\ty\r\nn/a\tz\r\n".encode(encoding))
    assert vocabulary_from_tables(tmp_path).names == {1: "1", 2: "Zelle ß"}


@pytest.mark.parametrize(
    "content", [b"", b"\0\x01\xff", b"value\tlabel\n1\tA\n", b"index\tindex\n1\t2\n", b'index\n"1']
)
def test_a_bad_table_of_names_is_a_warning_that_names_it(
    cohort_folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (cohort_folder / "labels.tsv").write_bytes(content)
    cohort = open_cohort(cohort_folder)
    assert len(cohort.cases) == 4
    assert cohort.label_names == {}
    assert str(cohort_folder / "labels.tsv") in caplog.text
