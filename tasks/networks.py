"""Networks that segment beside fusion: those of a run, and for an atlas those that it taught nothing."""

from collections.abc import Mapping
from typing import Any, Protocol

from covoxel.segmentation import Segmented
from covoxel.spatial import Grid
from tasks import joint_network, nnunet_network
from tasks.scan import Scan
from tasks.study import Study


class Network(Protocol):
    """A trained network, wherever it comes from."""

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what is read, by name."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Settings that what it says depends on."""
        ...

    def says(self, scan: Scan, onto: Grid, device: str) -> Segmented:
        """Probabilities of labels on the grid `onto`."""
        ...


Networks = Mapping[str, Network]
"""By name, as of `covoxel.segmentation.candidates.NETWORKS`."""


def networks_of(study: Study) -> Networks:
    """Those that segment the cases of a run; none where nothing was trained."""
    found = {"joint": joint_network.joint_network(study), "nnunet": nnunet_network.nnunet_network(study)}
    return {name: network for name, network in found.items() if network is not None}


def judges_of(study: Study) -> dict[str, Networks]:
    """By id of an atlas, the networks that it taught nothing, for which it can tell what they are worth."""
    joint = {atlas: joint_network.joint_network(study, without=atlas) for atlas in joint_network.untaught(study)}
    nnunet = nnunet_network.judged_by(study)
    judges = {}
    for atlas in sorted({*joint, *nnunet}):
        found = {"joint": joint.get(atlas), "nnunet": nnunet.get(atlas)}
        judges[atlas] = {name: network for name, network in found.items() if network is not None}
    return {atlas: networks for atlas, networks in judges.items() if networks}


def hashes_of(networks: Networks) -> dict[str, str]:
    """SHA-256 of all that they read, by name."""
    return {f"{name}.{what}": sha for name, network in networks.items() for what, sha in network.hashes().items()}


def facts_of(networks: Networks) -> dict[str, Mapping[str, Any]]:
    """Settings that what they say depends on."""
    return {name: dict(network.facts()) for name, network in networks.items()}


def all_say(networks: Networks, scan: Scan, onto: Grid, device: str) -> dict[str, Segmented]:
    """What each of them says of a scan, on the grid `onto`."""
    return {name: network.says(scan, onto, device) for name, network in networks.items()}
