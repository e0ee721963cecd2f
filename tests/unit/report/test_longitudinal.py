"""The page of a longitudinal study: a line a subject, tables, pictures, and no text that is not escaped."""

import torch

from covoxel.report import LongitudinalReport, StructureChange, Trace, change_map, render_longitudinal
from covoxel.report.longitudinal import spaghetti
from covoxel.spatial import Grid, Image


def test_a_subject_seen_twice_is_a_line_and_one_seen_once_is_none() -> None:
    twice = Trace("s1", ((0.0, 100.0), (1.0, 97.0), (2.5, 95.0)))
    cloud = spaghetti(StructureChange("hippocampus", (twice, Trace("s2", ((0.0, 100.0),)))))
    assert cloud is not None
    assert len(cloud.lines) == 2
    assert len(cloud.dots) == 3
    ends = [line.y1 for line in cloud.lines]
    assert ends == sorted(ends), "what shrinks goes down the page"
    assert spaghetti(StructureChange("hippocampus", (Trace("s2", ((0.0, 100.0),)),))) is None


def test_the_page_shows_everything_and_escapes_every_text() -> None:
    grid = Grid.from_spacing((12, 12, 12), 2.0)
    labels = torch.zeros(grid.shape, dtype=torch.int64)
    labels[4:8, 4:8, 4:8] = 1
    picture = change_map(Image(torch.rand(grid.shape), grid), Image(-0.03 * labels, grid), Image(labels, grid))
    evil = "<script>x</script>"
    report = LongitudinalReport(
        title=evil,
        cohort=evil,
        structures=(
            StructureChange(
                evil, (Trace(evil, ((0.0, 100.0), (1.0, 97.0))),), ((evil, "-3.01"),), ((evil, "0.01"),), "floor 0.8 %"
            ),
        ),
        rate_columns=("subject", "percent per year"),
        model_columns=("term", "p"),
        maps={evil: picture},
        problems={"c1": "too small"},
        notes=("one note",),
    )
    page = render_longitudinal(report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for words in ("-3.01", "percent per year", "floor 0.8 %", "too small", "one note", "data:image/webp;base64,"):
        assert words in page
    assert page == render_longitudinal(report)


def test_a_study_without_anything_is_a_page_too() -> None:
    assert "Needs a look" not in render_longitudinal(LongitudinalReport("Nothing"))
