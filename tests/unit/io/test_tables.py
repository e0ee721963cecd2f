"""Tables: what is written is read, identifiers stay text, the same table gives the same bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covoxel.io import read_table, write_table

TABLE = pd.DataFrame(
    {
        "id": ["007", "1e5", "n°3, or 4"],
        "status": ["done", None, 'set "aside"\nfor now'],
        "code": ["010", "11", "12"],
        "dice": [0.87654321, np.nan, 1e-9],
        "volume_mm3": [1234567.0, 2.5, -np.inf],
        "count": [3, -4, 2**40],
        "passed": [True, False, True],
    }
)


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_a_table_survives(suffix: str, tmp_path: Path) -> None:
    write_table(tmp_path / f"x{suffix}", TABLE)
    read = read_table(tmp_path / f"x{suffix}")
    expected = TABLE.assign(dice=[0.876543, np.nan, 1e-9])
    pd.testing.assert_frame_equal(read, expected, check_dtype=False, check_exact=True)
    assert [read[name].dtype.kind for name in ("dice", "volume_mm3", "count", "passed")] == ["f", "f", "i", "b"]


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_writing_what_was_read_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    write_table(tmp_path / f"x{suffix}", TABLE)
    write_table(tmp_path / f"y{suffix}", read_table(tmp_path / f"x{suffix}"))
    assert (tmp_path / f"x{suffix}").read_bytes() == (tmp_path / f"y{suffix}").read_bytes()


def test_the_bytes_are_those_of_bids(tmp_path: Path) -> None:
    write_table(tmp_path / "x.tsv", TABLE.drop(columns=["status", "id"]).head(2))
    assert (tmp_path / "x.tsv").read_bytes() == (
        b"code\tdice\tvolume_mm3\tcount\tpassed\n010\t0.876543\t1234567\t3\ttrue\n11\tn/a\t2.5\t-4\tfalse\n"
    )


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
def test_every_text_survives_in_an_identifier(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "names.tsv"
    names = [name for name in names if name != "n/a"] or ["x"]
    write_table(path, pd.DataFrame({"id": names, "b": 1}))
    assert read_table(path)["id"].tolist() == names


def test_numbers_are_text_where_asked(tmp_path: Path) -> None:
    write_table(tmp_path / "x.tsv", pd.DataFrame({"scan": ["12", "13"], "participant_id": ["1", "2"], "n": [1, 2]}))
    assert read_table(tmp_path / "x.tsv")["scan"].tolist() == [12, 13]
    read = read_table(tmp_path / "x.tsv", text=["scan"])
    assert read["scan"].tolist() == ["12", "13"]
    assert read["participant_id"].tolist() == ["1", "2"]
    assert read["n"].tolist() == [1, 2]


def test_na_and_nan_are_names_and_only_na_with_a_slash_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("id\tgroup\nNA\tnan\nNone\tn/a\nnull\t\n")
    read = read_table(tmp_path / "x.tsv")
    assert read["id"].tolist() == ["NA", "None", "null"]
    assert read["group"].isna().tolist() == [False, True, True]


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("﻿id,image\r\n1,a b.nii.gz\r\n".encode())
    assert read_table(tmp_path / "x.csv").to_dict("list") == {"id": ["1"], "image": ["a b.nii.gz"]}


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "x.tsv", TABLE.head(0))
    assert list(read_table(tmp_path / "x.tsv").columns) == list(TABLE.columns)


@pytest.mark.parametrize("content", [b"", b"a\tb\n1\t2\t3\n1\t2\t3\t4\n", b"a\n\xff\0\n"])
def test_no_table_is_an_error_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.tsv must be a table"):
        read_table(tmp_path / "x.tsv")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    for call in (lambda: write_table(tmp_path / "x.xlsx", TABLE), lambda: read_table(tmp_path / "x.xlsx")):
        with pytest.raises(ValueError, match=r"must end in \.tsv or \.csv, got '\.xlsx'"):
            call()
