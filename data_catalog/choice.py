"""What is taken where a cohort offers several files for one thing, and how far its own tables are followed."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from covoxel.io.formats import image_stem

IMAGE = "T1w"


@dataclass(frozen=True)
class Choice:
    """Which files of a BIDS cohort are taken, and whether files outside of the cohort's folder may be named.

    Parameters
    ----------
    image
        Ending of the images, with entities that they must have if wanted: `T1w`, `T2w`, `acq-mprage_T1w`.
    label
        What the label maps must have: an entity (`desc-manual`), the name of a folder on their path (`manual`), or
        both (`manual/desc-manual`). Empty: each image must have one label map only.
    run
        Number of the run that is taken where runs are numbered. Empty: each run is a case.
    ids
        What DICOM cases are named by: "folder", or "hash" where names of folders may be those of people.
    trusted
        Whether tables may name files outside of the cohort's folder, and links in it may lead out of it.
    """

    image: str = IMAGE
    label: str = ""
    run: str = ""
    ids: Literal["folder", "hash"] = "folder"
    trusted: bool = True

    @property
    def contrast(self) -> str:
        """Ending of the images without the entities."""
        return self.image.rpartition("_")[2]

    @property
    def chooses(self) -> bool:
        """Whether anything but the default is asked for."""
        return (self.image, self.label, self.run) != (IMAGE, "", "")

    def takes_image(self, name: str) -> bool:
        """Whether an image of the right contrast, by its name without suffix, has the entities and the run."""
        parts, run = name.split("_"), entity(name, "run")
        has_run = not self.run or not run or _number(run) == _number(self.run.removeprefix("run-"))
        return has_run and all(part in parts for part in self.image.split("_"))

    def takes_label(self, path: PurePath) -> bool:
        """Whether a label map, by its path below the cohort's folder, is the one that is asked for."""
        parts, folders = image_stem(path).split("_"), path.parts[:-1]
        return all(
            wanted in folders or all(each in parts for each in wanted.split("_"))
            for wanted in filter(None, self.label.split("/"))
        )


def entity(name: str, key: str) -> str:
    """Value of an entity in a BIDS name: "1" for `run` in `sub-01_run-1_T1w`; "" without it."""
    found = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)(?:_|$)", name)
    return found[1] if found else ""


def _number(run: str) -> str:
    return run.lstrip("0") or run
