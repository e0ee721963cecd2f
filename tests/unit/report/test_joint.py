"""The section on the joint network: what was kept, verdicts, held-out atlases, curves, units; none where none is."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from covoxel.report import (
    CaseReport,
    JointPoint,
    JointReport,
    JudgedRow,
    Report,
    StructureRow,
    VerdictRow,
    render,
)

Read = Callable[[str], Any]
EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7 * 7 }}"
HURT = "posterior: joint minus separate Dice -0.040: joint training hurts, the separate network is used"


def case(number: int, candidate: str, dice: float | None = 0.9) -> CaseReport:
    return CaseReport(
        f"sub_{number:03}",
        rows=(StructureRow(1, "anterior", 1.0, dice),),
        predicted_dice=0.88,
        rule="joint_label_fusion",
        candidate=candidate,
        choice="The mean of fusion and the joint network is expected to be better here.",
        predicted_by_candidate={"fusion": 0.87, "joint": 0.873, "fusion+joint": 0.88},
        agreement=0.9 + number / 100,
        spread=0.01 * number,
    )


def judged(name: str, fusion: float, joint: float, both: float) -> JudgedRow:
    return JudgedRow(name, {"fusion": fusion, "joint": joint, "fusion+joint": both})


@pytest.fixture
def report() -> Report:
    alphas = tuple(((0.9, 0.12 * k), (-0.04, 1.0)) for k in range(4))
    joint = JointReport(
        "cross-stitch",
        verdicts=(
            VerdictRow("anterior: joint minus separate Dice +0.020: the joint network is used"),
            VerdictRow(HURT, True),
        ),
        judged=(judged("atlas_01", 0.86, 0.88, 0.89), judged("atlas_02", 0.84, 0.80, 0.85)),
        curve=tuple(
            JointPoint(name, step, 1 / (step + 1))
            for name in ("registration loss", "segmentation loss")
            for step in range(0, 300, 100)
        ),
        alphas={"encoder-0": alphas, "decoder-1": alphas * 8},
    )
    kept = ("fusion+joint",) * 3 + ("joint", "fusion")
    return Report("t", tuple(case(i, name) for i, name in enumerate(kept)), joint=joint, components=("cross-stitch",))


def section(page: str) -> str:
    return page.split('<section id="joint">')[1].split("</section>")[0]


def test_candidates_are_counted_and_every_case_says_which_was_kept_and_why(report: Report, read: Read) -> None:
    text = read(render(report)).text
    assert "fusion + joint network 3 0.880 0.900 fusion 1 0.870 0.900 joint network 1 0.873 0.900" in text
    assert text.count("Label map of fusion + joint network") == 3
    assert text.count("fusion + joint network 0.880 chosen joint network 0.873 fusion 0.870") == 3
    assert text.count("joint network 0.873 chosen") == 1
    assert text.count("is expected to be better here.") == 5
    assert "Networks agree with fusion 0.920" in text
    assert "Rule that fused the labels joint label fusion" not in text.replace("Rule Cases", "")


def test_dice_of_a_rule_is_that_of_its_own_label_maps(report: Report, read: Read) -> None:
    cases = (replace(report.cases[0], rows=(StructureRow(1, "anterior", 1.0, 0.1),)), *report.cases[1:])
    fusion = render(replace(report, cases=cases)).split('<section id="fusion">')[1].split("</section>")[0]
    assert "Rule that fused the labels" in fusion
    assert re.findall(r'<td class="n">(\S+)</td>', fusion) == ["5", "0.900"]


def test_verdicts_stand_as_the_arbiter_says_them_and_alarms_are_marked(report: Report, read: Read) -> None:
    page = section(render(report))
    assert f'<li class="hurt">{HURT}</li>' in page
    assert page.count("<li>anterior: joint minus") == 1


def test_held_out_atlases_are_a_table_with_its_means(report: Report, read: Read) -> None:
    text = read(render(report)).text
    assert "Dice on atlases that taught a network no label" in text
    assert "atlas_01 0.860 0.880 0.890 atlas_02 0.840 0.800 0.850 Mean 0.850 0.840 0.870" in text


def test_the_learning_curve_is_drawn_for_each_loss(report: Report, read: Read) -> None:
    page = section(render(report))
    assert page.count('<figure class="panel">') == 2
    assert "Registration loss: 1 at step 0, 0.004975 at step 200." in page


def test_stitch_units_have_a_cell_for_every_weight(report: Report) -> None:
    page = section(render(report))
    units = page.split("Stitch units")[1].split('<table style="--n:')[1:]
    assert [len(re.findall("<td", unit)) for unit in units] == [16, 128]
    assert [unit.split('"')[0] for unit in units] == ["4", "32"]
    own, other = re.findall(r"<tr>.*?</tr>", units[0], re.DOTALL)[:2]
    assert "segments ← segments" in own
    assert own.count(">.90<") == 4
    # Shades run from -0.5 to 1 in ten levels.
    assert re.findall(r'<td class="(\w+)">([^<]*)', other) == [
        ("l3", ".00"),
        ("l4", ".12"),
        ("l4", ".24"),
        ("l5", ".36"),
    ]
    assert "encoder-0: 4 channels; mean share of the other path 0.11" in page
    assert page.count('class="heat dense"') == 1


def test_methods_name_what_was_trained(report: Report, read: Read) -> None:
    text = read(render(report)).text
    assert "cross-stitch units, was trained" in text
    assert "Beljaards et al. A cross-stitch architecture" in text
    assert "Misra et al. Cross-stitch networks" in text
    assert "abel probabilities of networks and of the fused label map were averaged" in text
    alone = read(render(Report("t", components=("deepatlas",), joint=JointReport("deepatlas")))).text
    assert "Xu & Niethammer. DeepAtlas" in alone


def test_without_a_joint_network_there_is_no_section_and_with_little_it_is_short(report: Report, read: Read) -> None:
    plain = replace(report, joint=None, cases=(CaseReport("a", rule="majority"),), components=())
    page = render(plain)
    assert 'id="joint"' not in page
    assert "Rule that made the result" in page
    little = section(
        render(replace(plain, joint=JointReport("deepatlas", judged=report.joint.judged[:1] if report.joint else ())))
    )
    assert "Dice on an atlas that taught a network no label" in little
    assert "Mean" not in little
    assert "Stitch units" not in little


def test_all_text_is_escaped(report: Report, read: Read) -> None:
    assert report.joint is not None
    joint = replace(
        report.joint,
        verdicts=(VerdictRow(EVIL),),
        judged=(judged(EVIL, 0.1, 0.2, 0.3),),
        curve=(JointPoint(EVIL, 0, 1.0),),
        alphas={EVIL: report.joint.alphas["encoder-0"]},
    )
    cases = (replace(report.cases[0], choice=EVIL, candidate=EVIL),)
    reader = read(render(replace(report, joint=joint, cases=cases)))
    assert reader.count("script") == 0
    assert reader.count("img") == 0
    assert "49" not in reader.text
