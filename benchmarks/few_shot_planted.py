"""The command line of covoxel with a registration network whose sign was lost: planted trouble for the alarm.

Run by benchmarks.few_shot: python -m benchmarks.few_shot_planted few-shot …
"""

from dataclasses import replace

from torch import Tensor

from flows.__main__ import main
from nets.registration import REGISTRATION_NETS
from nets.registration.base import Registered
from nets.registration.lapirn import LapIRN

WRONG_SIGN = "lapirn-wrong-sign"


@REGISTRATION_NETS.register(WRONG_SIGN)
class WrongSign(LapIRN):
    """Says the opposite of what it has learnt wherever it is used; in training nobody sees it."""

    def register_pair(self, fixed: Tensor, moving: Tensor, inverse: bool) -> Registered:
        """The displacement turned round, out of training."""
        said = super().register_pair(fixed, moving, inverse)
        return said if self.training else replace(said, displacement_vox=-said.displacement_vox)


if __name__ == "__main__":
    main()
