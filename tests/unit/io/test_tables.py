"""Tables: what is written is read, identifiers stay text, the same table gives the same bytes."""

import codecs
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covoxel.io import TableError, read_rows, read_table, write_table

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


ENCODINGS = ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_in_any_encoding_is_read(encoding: str, end: str, tmp_path: Path) -> None:
    text = end.join(["index\tname", "1\tGyrus präzentral", "", "2\tNoyau caudé", ""])
    (tmp_path / "x.tsv").write_bytes(text.encode(encoding))
    assert read_table(tmp_path / "x.tsv").to_dict("list") == {
        "index": [1, 2],
        "name": ["Gyrus präzentral", "Noyau caudé"],
    }
    assert read_rows(tmp_path / "x.tsv") == (
        ["index", "name"],
        [(2, {"index": "1", "name": "Gyrus präzentral"}), (4, {"index": "2", "name": "Noyau caudé"})],
    )


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE])
def test_a_byte_order_mark_names_the_order_of_bytes(mark: bytes, tmp_path: Path) -> None:
    name = "utf-16-be" if mark == codecs.BOM_UTF16_BE else "utf-16-le"
    (tmp_path / "x.csv").write_bytes(mark + "id,group\n1,患者\n".encode(name))
    assert read_table(tmp_path / "x.csv")["group"].tolist() == ["患者"]


@pytest.mark.parametrize(
    "text", ["id;age;name\n1;65,5;a, b\n2;70;c\n", "sep=;\r\nid;age;name\r\n1;65,5;a, b\r\n2;70;c\r\n"]
)
def test_semicolons_and_decimal_commas_of_a_spreadsheet_are_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    read = read_table(tmp_path / "x.csv")
    assert read["age"].tolist() == [65.5, 70.0]
    assert read["name"].tolist() == ["a, b", "c"]


def test_tabs_in_a_csv_are_read_and_commas_in_a_tsv_are_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id\tage\n1\t65\n")
    assert read_table(tmp_path / "x.csv")["age"].tolist() == [65]
    (tmp_path / "x.tsv").write_text("a,b\n1,2\n")
    assert list(read_table(tmp_path / "x.tsv").columns) == ["a,b"]


def test_missing_cells_at_the_end_and_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(",id,age,,\n0,1,65,,\n1,2\n2,3,70,,,,\n")
    read = read_table(tmp_path / "x.csv")
    assert read["id"].tolist() == ["1", "2", "3"]
    assert list(read.columns) == ["id", "age"]
    assert read["age"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", "must be a table of text, but it holds bytes that are no text"),
        (b"id\tname\n1\ta\0b\n", "must be a table of text, but it holds bytes that are no text"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "must be a table of text, but it holds bytes that are no text"),
        (b"id\tage\tid\n1\t2\t3\n", "has the column 'id' twice; each column must have its own name"),
        (b"id\tage\n1\t2\n\n2\t3\t4\n", "line 4 has 3 cells and the header 2"),
        (b'id\tage\n1\t"2\n2\t3\n', "line 2: unexpected end of data"),
        (b"id\n" + b"x" * 200_000, "field larger than field limit"),
        (b"", "must be a table with one header line, got an empty file"),
        (b"\n\n", "must be a table with one header line, got an empty file"),
    ],
)
def test_what_is_no_table_is_one_sentence_that_names_the_file(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(content)
    for call in (read_table, read_rows):
        with pytest.raises(TableError) as caught:
            call(tmp_path / "x.tsv")
        assert sentence in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / "x.tsv"))
        assert "\n" not in str(caught.value)


def test_a_million_columns_are_refused_before_they_are_taken_apart(tmp_path: Path) -> None:
    line = b"\t".join(b"c%d" % number for number in range(1_000_000))
    (tmp_path / "x.tsv").write_bytes(line + b"\n")
    tracemalloc.start()
    with pytest.raises(TableError, match=r"has \d+ columns or more; a table must have at most 4096"):
        read_table(tmp_path / "x.tsv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * len(line)


def test_a_table_that_is_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("id\n" + "1\n" * 100)
    with pytest.raises(TableError, match=r"x.tsv has more than 50 bytes"):
        read_table(tmp_path / "x.tsv", most_bytes=50)
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(OSError, match="it is a pipe, a device or a socket"):
        read_table(tmp_path / "pipe.tsv")
