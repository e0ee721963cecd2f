"""The call: what a user asks of a run, checked before anything starts."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.settings import FewShotSettings, RecipeName

Device = Literal["auto", "cpu", "cuda"]
Trains = Literal["registration", "joint"]
MAX_WORKERS = 64


class CallError(ValueError):
    """What was asked cannot be done; nothing was started."""


class NothingDoneError(RuntimeError):
    """The run could not go on: nothing could be segmented."""


class Call(BaseModel):
    """Parameters that all flows share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cohort: Path = Field(description="folder or table of images")
    atlases: tuple[str, ...] = Field((), description="ids of the cases whose labels are used")
    output: Path = Field(description="folder for results")
    settings: FewShotSettings = FewShotSettings()
    evaluate: Path | None = Field(None, description="folder of true labels that only scoring reads")
    cases: tuple[str, ...] | None = Field(None, description="ids of the only cases to segment; all without it")
    device: Device = "auto"
    workers: int | None = Field(None, ge=1, le=MAX_WORKERS, description="cases at a time")
    recipe: RecipeName | None = Field(None, description="name or YAML file of what a network is trained by")
    trains: Trains = Field("registration", description="what is trained by the recipe")
    builds_atlas: bool = Field(False, description="whether a template is built of the cases")
    follows: bool = Field(False, description="whether subjects are followed over their visits")

    @field_validator("cohort", "output", "evaluate")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()
