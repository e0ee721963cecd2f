"""One template in a process of its own: the file of it, its seconds, its peak of memory.

Run from the project's root: python -m benchmarks.atlas_build covoxel FOLDER OUTPUT --iterations 4
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Stopwatch, import_ants, peak_gib

COVOXEL, ANTS = "covoxel", "ANTs"


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=(COVOXEL, ANTS))
    parser.add_argument("folder", type=Path, help="images ID.nii.gz of about 0 to 1")
    parser.add_argument("output", type=Path, help="folder for template.nii.gz, facts.json and, of ours, placements")
    parser.add_argument("--iterations", type=int, default=4, help="deformable registrations of every case (default 4)")
    parser.add_argument("--rounds", type=int, default=2, help="affine ones before, of ours (default 2)")
    parser.add_argument("--backwards", action="store_true", help="cases in the other order, under other names")
    parser.add_argument("--quick", action="store_true", help="few steps: for memory, which does not depend on them")
    parser.add_argument("--threads", type=int, default=1, help="of this process; set in its environment too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    build = _covoxel if options.method == COVOXEL else _ants
    with Stopwatch() as watch:
        facts = build(options)
    facts |= {"seconds": watch.seconds, "cpu_seconds": watch.cpu_seconds, "peak_gib": peak_gib()}
    from covoxel.io import write_json

    write_json(options.output / "facts.json", facts)


def _covoxel(options: argparse.Namespace) -> dict[str, object]:
    import torch

    from covoxel.atlas import FolderOfPlacements, TemplateSettings, build_template
    from covoxel.io import write_image

    torch.set_num_threads(options.threads)
    settings = TemplateSettings(affine_rounds=options.rounds, iterations=options.iterations, tolerance=0)
    if options.quick:
        settings = replace(settings, first=(10, 10, 2, 1), later=(2, 1))
    placements = FolderOfPlacements(options.output / "placements")
    found = build_template(_Images(options.folder, options.backwards), settings, placements=placements)
    write_image(options.output / "template.nii.gz", found.image)
    return {"left_out": dict(found.left_out)}


class _Images(Mapping):  # type: ignore[type-arg]
    """Images of a folder by id, each read when it is asked for."""

    def __init__(self, folder: Path, backwards: bool) -> None:
        paths = sorted(folder.glob("*.nii.gz"), reverse=backwards)
        self._paths = {(f"renamed{number}" if backwards else path.name): path for number, path in enumerate(paths)}

    def __getitem__(self, name: str) -> object:
        from covoxel.io import read_image

        return read_image(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def _ants(options: argparse.Namespace) -> dict[str, object]:
    ants = import_ants(options.seed)
    images = [ants.image_read(str(path)) for path in sorted(options.folder.glob("*.nii.gz"))]
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        template = ants.build_template(image_list=images, iterations=options.iterations, output_dir=folder)
    ants.image_write(template, str(options.output / "template.nii.gz"))
    return {}


if __name__ == "__main__":
    main()
