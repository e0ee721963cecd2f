"""Candidates for the label map of a case: fusion, each network, means of them, the cohort; how they are called."""

from collections.abc import Mapping, Sequence

FUSION = "fusion"
NETWORKS: Mapping[str, str] = {"joint": "the joint network", "nnunet": "nnU-Net"}
"""Networks that may segment beside fusion, in words."""
BY_COHORT = "cohort"
"""Fusion of other cases, labelled by a network, where there is one atlas (`PRIOR_OF_ONE` of the rivals)."""


def candidates_of(networks: Sequence[str]) -> tuple[str, ...]:
    """Names of all candidates: fusion, each network, fusion averaged with each, and with all of them.

    Parameters
    ----------
    networks
        Names of the networks that segment, each one of `NETWORKS`.
    """
    pairs = [(FUSION, network) for network in networks]
    everyone = [(FUSION, *networks)] if len(networks) > 1 else []
    return tuple("+".join(members) for members in [(FUSION,), *((each,) for each in networks), *pairs, *everyone])


def members_of(candidate: str) -> tuple[str, ...]:
    """Names of those whose probabilities a candidate is the mean of."""
    return tuple(candidate.split("+"))


def networks_of(candidate: str) -> tuple[str, ...]:
    """Names of the networks among them."""
    return tuple(name for name in members_of(candidate) if name in NETWORKS)


def in_words(candidate: str) -> str:
    """What a candidate is, within a sentence: "the mean of fusion and the joint network"."""
    members = members_of(candidate)
    if members == (FUSION,):
        return "the fused label map"
    if members == (BY_COHORT,):
        return "the label map fused from other cases of the cohort"
    if len(members) == 1:
        return f"the label map of {NETWORKS[candidate]}"
    names = [NETWORKS.get(name, name) for name in members]
    return f"the mean of {', '.join(names[:-1])} and {names[-1]}"
