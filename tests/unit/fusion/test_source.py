"""A whole image read part by part: the same answers whatever the parts, and files that go when the work ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.fusion import FUSION_RULES, fuse, gather_evidence
from covoxel.fusion.atlas_choice import agreements, contradicting_atlases, dice_by_count, likeness_scores
from covoxel.fusion.candidates import candidates, fuse_image, fused_parts
from covoxel.fusion.facts import facts_of
from covoxel.fusion.gather import Gathered, gather
from covoxel.fusion.planted import planted
from covoxel.fusion.quality import signs_of
from covoxel.fusion.source import Source, in_memory, source_of
from covoxel.fusion.survey import overlaps_of, votes_of
from covoxel.fusion.tiling import grown, voxels_in, whole_window
from covoxel.io.scratch import Scratch
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.field import displacement_mm_from_vox
from covoxel.spatial.smoothing import refine

SHAPES = [(22, 18, 20), (40, 34)]
RULES = sorted(FUSION_RULES)


def atlas_files(shape: tuple[int, ...], atlases: int, structures: int = 6) -> list[tuple[Image, Image, Transform]]:
    """Noise and bands of labels with gaps in their values, through smooth random warps that leave the image."""
    generator = torch.Generator().manual_seed(len(shape))
    grid = Grid.from_spacing(shape, 1.5)
    moving = Grid.from_spacing(tuple(side + 3 for side in shape), 1.5)
    bands = torch.arange(moving.shape[0]) * structures // moving.shape[0] * 37
    blocks = bands.view(-1, *[1] * (len(shape) - 1)).repeat(1, *moving.shape[1:])
    blocks[:, : shape[1] // 3] = 0
    atlases_of = []
    for _ in range(atlases):
        nodes = 2.5 * torch.randn(1, len(shape), *[4] * len(shape), generator=generator)
        bend = displacement_mm_from_vox(refine(nodes, [side / 4 for side in shape], shape), grid)[0]
        image = blocks.float().sqrt() + 0.5 * torch.randn(moving.shape, generator=generator)
        transform = Transform(grid, np.eye(len(shape) + 1), bend)
        atlases_of.append((Image(image, moving), Image(blocks, moving), transform))
    return atlases_of


def image_of(shape: tuple[int, ...]) -> Image:
    atlas = atlas_files(shape, 1)[0]
    grid = Grid.from_spacing(shape, 1.5)
    return Image(gather_evidence(Image(torch.zeros(shape), grid), *[[part] for part in atlas]).moved[0], grid)


@pytest.fixture(params=SHAPES, ids=["3-D", "2-D"])
def gathered(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gathered]:
    with Scratch(tmp_path, in_memory=0) as scratch:
        yield gather(image_of(request.param), atlas_files(request.param, 4), scratch)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covoxel.fusion.source._VOXELS", 2500)
    monkeypatch.setattr("covoxel.fusion.source._NUMBERS", 25000)
    monkeypatch.setattr("covoxel.fusion.descriptors._SLAB", 2000)
    monkeypatch.setattr("covoxel.fusion.gather._SLAB", 700)


def test_windows_hold_every_voxel_once_and_few_structures(gathered: Gathered, small_parts: None) -> None:
    covered, most = torch.zeros(gathered.shape, dtype=torch.int64), 0
    for window in gathered.windows(reach=1):
        covered[window] += 1
        wide = grown(window, 1, gathered.shape)
        assert voxels_in(wide) <= 2500
        most = max(most, voxels_in(wide) * gathered.atlases * int(gathered.present(wide).sum()))
    assert (covered == 1).all()
    assert most <= 25000


def test_a_part_is_that_part_of_the_whole(gathered: Gathered, small_parts: None) -> None:
    whole, found = gathered.evidence(), set()
    assert len(whole.values) == 6
    for window in gathered.windows(reach=1):
        part = gathered.evidence(window, reach=1)
        assert part.place is not None
        at: Any = (slice(None), *part.place.window)
        places = gathered.places_of(part.values)
        assert_close(part.moved, whole.moved[at], atol=1e-4, rtol=0)
        assert torch.equal(part.valid, whole.valid[at])
        own = whole.labels[(slice(None), slice(None), *part.place.window)]
        assert_close(part.labels, own[:, places], atol=1e-5, rtol=0)
        assert_close(part.labels.sum(1), torch.ones_like(part.moved), atol=1e-5, rtol=0)
        found.add(len(part.values))
    assert min(found) < 6  # structures that do not occur in a part are not there


def test_an_image_of_one_part_is_interpolated_once(gathered: Gathered, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    real = Gathered.indicators
    monkeypatch.setattr(Gathered, "indicators", lambda own, atlas, *at: reads.append(atlas) or real(own, atlas, *at))
    kept = in_memory(gathered)
    fuse_image(kept, "joint_label_fusion")
    assert reads == [0, 1, 2, 3]
    monkeypatch.undo()
    assert torch.equal(kept.evidence().labels, gathered.evidence().labels)


def test_an_image_of_several_parts_stays_where_it_is(gathered: Gathered, small_parts: None) -> None:
    assert in_memory(gathered) is gathered


def test_votes_at_voxels_are_those_of_the_whole(gathered: Gathered) -> None:
    whole, voxels = gathered.evidence(), torch.tensor([[3] * len(gathered.shape), [9] * len(gathered.shape)])
    for atlas in range(gathered.atlases):
        at: Any = (slice(None), *voxels.unbind(1))
        assert_close(gathered.indicators_at(atlas, voxels), whole.labels[atlas][at], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_the_same_part_by_part(gathered: Gathered, rule: str, small_parts: None) -> None:
    whole = fuse(rule, gathered.evidence())
    probabilities = torch.zeros_like(whole.probabilities)
    parts = 0
    for part in fused_parts(gathered, {rule: {}}):
        at: Any = (gathered.places_of(part.values)[:, None], torch.arange(voxels_in(part.window)))
        own = torch.zeros(len(gathered.values), voxels_in(part.window))
        own[at] = part.results[rule].probabilities.flatten(1)
        probabilities[(slice(None), *part.window)] = own.view(-1, *part.results[rule].label_map.shape)
        parts += 1
    assert parts > (4 if len(gathered.shape) == 3 else 1)  # the 2-D image fills two parts
    assert_close(probabilities, whole.probabilities, atol=2e-3, rtol=0)
    assert (probabilities - whole.probabilities).abs().mean() < 1e-5
    image = fuse_image(gathered, rule)
    assert image.label_map.dtype == torch.uint8
    assert (image.label_map == whole.label_map).float().mean() > 0.999
    assert_close(image.confidence, whole.confidence, atol=2e-3, rtol=0)
    sure = torch.stack([whole.probabilities[place][whole.label_map == value].sum() for place, value in _values(whole)])
    assert_close(image.expected[0], sure.double(), atol=0.05, rtol=1e-3)


def _values(fused: Any) -> list[tuple[int, int]]:
    return [(place, 37 * place) for place in range(fused.probabilities.shape[0])]


@pytest.mark.parametrize("settings", [{"search": 2}, {"search": 0}, {"search": 2, "radius": 1, "spread": 4}])
def test_a_wide_search_looks_beyond_its_part(gathered: Gathered, settings: dict[str, int], small_parts: None) -> None:
    rule = "joint_label_fusion" if "spread" in settings else "locally_weighted"
    whole = fuse(rule, gathered.evidence(), **settings)
    found = fuse_image(gathered, rule, **settings)
    assert (found.label_map == whole.label_map).float().mean() > 0.999
    assert_close(found.confidence, whole.confidence, atol=2e-3, rtol=0)


def test_a_part_too_small_for_its_search_is_refused(gathered: Gathered) -> None:
    core = tuple(slice(4, 9) for _ in gathered.shape)
    with pytest.raises(ValueError, match="must reach 2 voxels beyond its core"):
        fuse("locally_weighted", gathered.evidence(core, reach=1), search=2)


def test_what_is_known_of_the_atlases_does_not_depend_on_the_parts(
    gathered: Gathered, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list("abcd")
    whole = source_of(gathered.evidence())
    truth = torch.where(whole.fixed > 4, 37, 0)
    rules: dict[str, dict[str, Any]] = {"majority": {}, "locally_weighted": {"search": 0}}

    def known(source: Source) -> dict[str, Any]:
        results = candidates(source, rules)
        return {
            "signs": [number for signs in signs_of(source, results).values() for number in signs.values()],
            "likeness": likeness_scores(source),
            "agreement": agreements(source, results["majority"].label_map),
            "overlap": overlaps_of(source).tolist(),
            "volumes": votes_of(source).volumes.flatten().tolist(),
            "curve": list(dice_by_count(source, truth, [2, 0, 3, 1]).values()),
            "contradicting": len(contradicting_atlases(source, names)),
        }

    at_once = known(whole)
    monkeypatch.setattr("covoxel.fusion.source._VOXELS", 2500)
    monkeypatch.setattr("covoxel.fusion.source._NUMBERS", 25000)
    in_parts = known(gathered)
    for name, numbers in at_once.items():
        assert in_parts[name] == pytest.approx(numbers, abs=2e-3), name


def test_planted_failures_do_not_depend_on_the_parts(gathered: Gathered, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: Source) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        found = {}
        for kind, spoilt in planted(source, seed=3):
            moved, valid = torch.zeros(4, *source.shape), torch.zeros(4, *source.shape, dtype=torch.bool)
            labels = torch.zeros(4, len(source.values), *source.shape)
            for window in spoilt.windows(reach=0):
                part, at = spoilt.evidence(window), (slice(None), *window)
                moved[at], valid[at] = part.moved, part.valid
                for place, own in zip(source.places_of(part.values).tolist(), part.labels.unbind(1), strict=True):
                    labels[:, place][at] = own
            found[kind] = (moved, valid, labels)
        return found

    at_once = read(gathered)
    monkeypatch.setattr("covoxel.fusion.source._VOXELS", 2500)
    monkeypatch.setattr("covoxel.fusion.source._NUMBERS", 25000)
    in_parts = read(gathered)
    assert len(at_once) >= 10
    for kind, (moved, valid, labels) in at_once.items():
        other = in_parts[kind]
        assert_close(other[0], moved, atol=1e-3, rtol=0, msg=kind)
        assert (other[1] == valid).float().mean() > 0.999, kind
        assert_close(other[2], labels, atol=1e-3, rtol=0, msg=kind)


def test_voxels_of_a_spoilt_source_are_those_of_its_parts(gathered: Gathered) -> None:
    voxels = torch.tensor([[4] * len(gathered.shape), [0] * len(gathered.shape), [15] * len(gathered.shape)])
    everything = whole_window(gathered.shape)
    for kind, spoilt in planted(gathered, seed=1):
        for atlas in (0, 3):
            at: Any = (slice(None), *voxels.unbind(1))
            labels = spoilt.indicators(atlas, everything, spoilt.values)[at]
            assert_close(spoilt.indicators_at(atlas, voxels), labels, atol=1e-3, rtol=0, msg=kind)


def test_staple_of_a_sample_is_near_that_of_all(gathered: Gathered, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = gathered.evidence()
    whole = fuse("staple", evidence)
    monkeypatch.setattr("covoxel.fusion.staple._SAMPLED", votes_of(gathered).undecided.sum().item() * 24 // 3)
    some = fuse("staple", gathered.evidence())
    assert not torch.equal(some.probabilities, whole.probabilities)
    assert (some.label_map == whole.label_map).float().mean() > 0.97


def test_facts_are_found_without_the_whole_in_memory(gathered: Gathered, small_parts: None) -> None:
    truth = torch.where(gathered.fixed > 4, 37, 0)
    facts = facts_of("case", gathered, truth, {"majority": {}}, plant=3)
    assert len(facts) == 4
    assert all(0 <= fact.dice <= 1 for fact in facts)


def test_scratch_is_removed_also_after_a_failure(tmp_path: Path) -> None:
    files = atlas_files((40, 34), 2)
    wrong = (files[1][0], Image(files[1][1].data[:-1], files[1][1].grid.cropped((0, 0), (42, 37))), files[1][2])
    with pytest.raises(ValueError, match="label map 1 must lie on the grid"), Scratch(tmp_path, in_memory=0) as kept:
        gather(image_of((40, 34)), [files[0], wrong], kept)
    assert list(tmp_path.iterdir()) == []
    with Scratch(tmp_path, in_memory=0) as kept:
        gather(image_of((40, 34)), files, kept)
        assert kept.bytes_on_disk == 2 * (40 * 34 * 13 + 43 * 37)
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    with Scratch(tmp_path) as kept:
        gather(image_of((40, 34)), files, kept)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="at least one atlas"), Scratch() as kept:
        gather(image_of((40, 34)), [], kept)
