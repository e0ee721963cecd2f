"""Recipe of one network that registers and segments, in plain values that a YAML file can hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from covoxel.registration.model import Alignment
from covoxel.training.registration.recipe import PairAugmentation, PairKind, Recipe, Term, finite, require

Shown = Literal["labelled", "true", "never"]
Decay = Literal["cosine", "constant"]


@dataclass(frozen=True)
class JointNetRecipe:
    r"""How one network learns to register and to segment.

    The loss of a pair is the sum of what there is of it. With images `I`, labels `S`, fixed and moving, the transform
    :math:`\Phi` and the segmentations `P` that the network says:

    - always the similarity of :math:`I_f` and :math:`I_m \circ \Phi`, and regularisers;
    - supervised: :math:`L(P_f, S_f)`, and :math:`L(P_m, S_m)` of a network that segments both images;
    - propagated: :math:`L(S_m \circ \Phi, S_f)`;
    - agreement, where `S_f` is not known: :math:`L(P_f, S_m \circ \Phi)`, or of :math:`P_m` where `S_m` is not
      known either. Both the segmentation and the transform learn from it.

    Propagated labels are compared by Dice. The cross-stitch network was printed with the Dice of the predicted labels
    and with the correlation of the warped ones; its authors' code has Dice in both places. So has this: both outputs
    are then paid alike for the same mistake, by what they are scored by, and a warp that is nowhere sure costs
    something, which correlation, blind to a factor, forgives. `propagated: [{name: ncc}]` is what was printed.

    Parameters
    ----------
    name, method
        Name, and one sentence: what it is, and the reference.
    network, network_settings
        Name of a joint network, and what it is built with.
    steps
        Steps of the optimiser with the whole loss.
    registration_steps
        Steps before these, for a network that can be trained in two phases: its registration alone, without what has
        no counterpart.
    alignment
        As for `Recipe`.
    pairs
        "inter": two subjects. "within": two cases of one subject, such as a visit and the one before.
    similarity
        Of `SIMILARITIES`, between fixed and moved image where both have data.
    regularisers
        Of `REGULARISERS`, as for `Recipe`.
    level_weight
        Weight of each level of a network that says several, compared on its own grid.
    supervised, propagated, agreement
        Of `LABEL_LOSSES`, summed. Structures that a true label does not tell count as background, wherever something
        is compared with it.
    fused_weight
        Weight of supervised and propagated losses with fused labels on a side, where cases have some in place of true
        ones; their confidence weighs each voxel besides. 0: such cases are unlabelled.
    moving_labels
        When the moving labels go into the network: "labelled" (true or fused ones, whenever there are), "true" or
        "never".
    drop_labels
        Share of the pairs in which they are left out even so.
    lesions
        Structures, places in the list of labels, in which there is nothing to match.
    relax
        How far similarity and regularisers are weakened there, 0 to 1: of a voxel, by so much of the probability of
        such a structure that the network says for the fixed image. The segmentation learns nothing from it.
    foreign_volume, foreign_perimeter
        Price of what the network says to have no counterpart, per voxel and per face of a voxel. Similarity counts
        there as far as it is said to have one.
    labelled_share, half_labelled_share
        Shares of the pairs that have two true labels, and just one; the others are any pairs. A kind that does not
        exist leaves its share to the next.
    augmentation
        One image of each pair, drawn anew, is warped; the intensities of both change.
    batch, learning_rate, warm_up, decay, weight_decay, clip, average
        As for `Recipe`; the schedule begins anew with the second phase.
    held_out
        Labelled cases that teach no label, and judge; the best weights are then kept in place of the last. Their
        images are used without their labels.
    check_every
        Steps between judgements.
    seed
        Of everything drawn in training. The weights the network starts from are its own.

    Raises
    ------
    ValueError
        If a value is out of range, or does nothing beside the others; names key, value and rule.

    References
    ----------
    Beljaards et al., A cross-stitch architecture for joint registration and segmentation in adaptive radiotherapy,
    MIDL 2020; relax: Estienne et al., Deep learning-based concurrent brain registration and tumor segmentation, Front.
    Comput. Neurosci. 2020; foreign: Andresen et al., Deep learning-based simultaneous registration and unsupervised
    non-correspondence segmentation of medical images with pathologies, IJCARS 2022.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    method: str
    network: str
    steps: int
    network_settings: Mapping[str, Any] = field(default_factory=dict)
    registration_steps: int = 0
    alignment: Alignment = "centre"
    pairs: PairKind = "inter"
    similarity: Term = field(default_factory=lambda: Term("lncc", 1.0, {"radius": 2}))
    regularisers: tuple[Term, ...] = field(default_factory=lambda: (Term("diffusion"),))
    level_weight: float = 0.0
    supervised: tuple[Term, ...] = field(default_factory=lambda: (Term("soft_dice"), Term("cross_entropy")))
    propagated: tuple[Term, ...] = field(default_factory=lambda: (Term("soft_dice"),))
    agreement: tuple[Term, ...] = field(default_factory=lambda: (Term("soft_dice"),))
    fused_weight: float = 1.0
    moving_labels: Shown = "labelled"
    drop_labels: float = 0.0
    lesions: tuple[int, ...] = ()
    relax: float = 0.0
    foreign_volume: float = 0.0
    foreign_perimeter: float = 0.0
    labelled_share: float = 0.25
    half_labelled_share: float = 0.5
    augmentation: PairAugmentation = field(default_factory=PairAugmentation)
    batch: int = 2
    learning_rate: float = 1e-3
    warm_up: int = 50
    decay: Decay = "cosine"
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.0
    held_out: int = 0
    check_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.moving_labels in get_args(Shown), "moving_labels", f"one of {get_args(Shown)}", self.moving_labels)
        for key, least in _LEAST.items():
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= least, key, f"a whole number, {least} or more", value)
        for key in ("fused_weight", "foreign_volume", "foreign_perimeter"):
            value = getattr(self, key)
            require(finite(value) and value >= 0, key, "finite and not negative", value)
        for key in ("drop_labels", "relax", "labelled_share", "half_labelled_share"):
            require(0 <= getattr(self, key) <= 1, key, "from 0 to 1", getattr(self, key))
        both = self.labelled_share + self.half_labelled_share
        require(both <= 1, "labelled_share + half_labelled_share", "at most 1", both)
        self._check_together()
        _ = self.registration

    def _check_together(self) -> None:
        """Refuse what does nothing beside the rest."""
        losses = (self.similarity, *self.supervised, *self.propagated, *self.agreement)
        require(any(term.weight for term in losses), "similarity", "of some weight where no label is compared", 0)
        places = all(isinstance(place, int) and place > 0 for place in self.lesions)
        require(places, "lesions", "places in the list of labels, 1 or more (0 is background)", self.lesions)
        require(bool(self.lesions) == (self.relax > 0), "relax", "above 0 exactly where lesions are named", self.relax)
        dropped = self.moving_labels != "never" or not self.drop_labels
        require(dropped, "drop_labels", "0 where moving_labels never go in", self.drop_labels)
        priced = self.foreign_volume > 0 or not self.foreign_perimeter
        require(priced, "foreign_volume", "positive beside foreign_perimeter, or all of an image is foreign", 0.0)

    @property
    def registration(self) -> Recipe:
        """What of it a registration recipe says: pairs, similarity and regularisers, and how it is optimised."""
        return Recipe(**{key: getattr(self, key) for key in _SHARED})

    def compares(self, name: str) -> bool:
        """Whether there is a loss of that name, "supervised", "propagated" or "agreement"."""
        terms: tuple[Term, ...] = getattr(self, name)
        return any(term.weight for term in terms)


_LEAST = {"registration_steps": 0, "held_out": 0}
_SHARED = (
    "name",
    "method",
    "network",
    "network_settings",
    "steps",
    "alignment",
    "pairs",
    "similarity",
    "regularisers",
    "level_weight",
    "augmentation",
    "batch",
    "learning_rate",
    "warm_up",
    "decay",
    "weight_decay",
    "clip",
    "average",
    "check_every",
    "seed",
)
"""Keys that mean the same in a registration recipe, which checks them."""
