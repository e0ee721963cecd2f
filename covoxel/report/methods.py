"""What ran, in sentences a paper can take over, each with its reference."""

from collections.abc import Iterable
from dataclasses import dataclass

from covoxel.report.references import REFERENCES, Reference


@dataclass(frozen=True)
class Method:
    """A component's sentence and the keys of its references."""

    sentence: str
    keys: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    "n4": Method("Slow intensity variation was removed by N4 bias field correction.", ("tustison2010",)),
    "identity": Method("Images were compared as they lie in the scanner's space, without registration."),
    "affine": Method(
        "Each moving image was brought onto the fixed image by a linear transform, optimised from coarse to fine.",
        ("jenkinson2001",),
    ),
    "svf": Method(
        "The remaining difference was modelled by the exponential of a stationary velocity field, optimised for each "
        "pair from coarse to fine.",
        ("arsigny2006", "ashburner2007"),
    ),
    "learned": Method(
        "The deformation of each pair was predicted by a network trained on other pairs of images.",
        ("balakrishnan2019",),
    ),
    "learned+svf": Method(
        "The deformation of each pair was predicted by a network trained on other pairs of images, and then refined "
        "for this pair by a stationary velocity field.",
        ("balakrishnan2019", "heinrich2022", "arsigny2006"),
    ),
    "lncc": Method("Similarity was local normalised cross-correlation.", ("avants2008",)),
    "nmi": Method("Similarity was normalised mutual information.", ("studholme1999",)),
    "ncc": Method("Similarity was the correlation coefficient.", ()),
    "mse": Method("Similarity was the mean squared difference.", ()),
    "mi": Method("Similarity was mutual information.", ("wells1996",)),
    "ssim": Method("Similarity was the structural similarity index.", ("wang2004",)),
    "ngf": Method("Similarity was the agreement of normalised gradient fields.", ("haber2006",)),
    "multi_resolution_ncc": Method(
        "Similarity was local normalised cross-correlation, added over several resolutions.", ("mok2022",)
    ),
    "background_suppression": Method(
        "Similarity was mutual information, with squared differences where the fixed image is background.",
        ("huang2021",),
    ),
    "mind": Method("Similarity was the difference of MIND descriptors of self-similarity context.", ("heinrich2013",)),
    "majority": Method("The moved atlas labels were fused by majority vote.", ("heckemann2006",)),
    "locally_weighted": Method(
        "The moved atlas labels were fused by a vote in which each atlas weighs, at each voxel, as much as its image "
        "resembles the case around that voxel; the vote was corrected by a regression on the voxel's intensity and "
        "place, learned from the moved atlases.",
        ("artaechevarria2009",),
    ),
    "staple": Method(
        "The moved atlas labels were fused by STAPLE: expectation maximisation estimates how reliable each atlas is "
        "for each label, and the labels that follow.",
        ("warfield2004",),
    ),
    "joint_label_fusion": Method(
        "The moved atlas labels were fused by joint label fusion: at each voxel the weights make the expected error of "
        "the vote least, given how likely two atlases are to be wrong together, as their images suggest; the vote was "
        "corrected by a regression on the voxel's intensity and place, learned from the moved atlases.",
        ("wang2013",),
    ),
    "data_parameters": Method(
        "How far each atlas' label is to be trusted on each case was learned as one data parameter a pair while a "
        "segmentation network was trained on all moved labels, and the consensus weighs each label by it.",
        ("weihsbach2022",),
    ),
    "consensus": Method(
        "The label probabilities of joint label fusion and of the locally weighted vote were averaged, and the most "
        "probable label kept.",
        ("kittler1998",),
    ),
    "select": Method(
        "For each case the result of the fusion rule was kept that was best on the atlases, each segmented from the "
        "others, or of another one where signs in the case itself, which need no true label, spoke for it.",
        ("valindria2017",),
    ),
    "calibration": Method(
        "Predicted Dice rests on signs that need no true label, such as the agreement of atlases and rules; it was "
        "calibrated by leave-one-out: each atlas was segmented from the others and compared with its own label.",
        ("valindria2017",),
    ),
    "atlas_selection": Method(
        "Before fusion, atlases that agree too little with a case or with the other atlases were left out of it.",
        ("aljabar2009",),
    ),
    "correction": Method(
        "Systematic errors of fusion were corrected by a network that sees the image and the fused probabilities; it "
        "was trained on the atlases, each fused from the others, and its probabilities and the fused ones were "
        "averaged.",
        ("wang2011",),
    ),
    "deepatlas": Method(
        "A segmentation and a registration network were trained in turns, each on what the other one says of cases "
        "without labels of their own, as in DeepAtlas.",
        ("xu2019",),
    ),
    "cross-stitch": Method(
        "One network with a path that segments and one that registers, which exchange features through cross-stitch "
        "units, was trained; it segments a case beside the labelled atlases.",
        ("beljaards2020", "misra2016"),
    ),
    "joint-network": Method(
        "One network that registers and segments was trained; it segments a case beside the labelled atlases.", ()
    ),
    "template-route": Method(
        "Each case was registered to an unbiased template of the atlases, once; every atlas came onto the case by the "
        "two transforms composed, and a few steps of refinement.",
        ("joshi2004",),
    ),
    "template-library": Method(
        "The atlases were grouped by the velocities that bring them onto their common template (Ward's criterion). "
        "Each group has a template of its own; a case went through the one that it is most like after an affine map.",
        ("wang2018",),
    ),
    "nnunet": Method(
        "nnU-Net was trained on the labels of the atlases and on fused labels, weighted by the confidence in them.",
        ("isensee2021",),
    ),
    "joint_both": Method(
        "Label probabilities of networks and of the fused label map were averaged, and the most probable label "
        "kept, where that was expected to be better.",
        ("kittler1998",),
    ),
    "joint_cohort": Method(
        "The other cases on which the network agreed most with the one atlas served as atlases with the network's "
        "labels: each was brought onto a case, and their labels fused.",
        ("wolz2010",),
    ),
    "joint_choice": Method(
        "Which of the fused label map, the networks' and their means became a case's segmentation was decided by their "
        "gain on atlases that taught the networks no label, and by how far networks and fusion agree on the case.",
        (),
    ),
    "dice": Method(
        "Agreement with the true labels is the Dice coefficient of each structure; the background is not a structure, "
        "a structure absent from both is not applicable, and one absent from either counts as 0.",
        ("dice1945",),
    ),
}


def describe(components: Iterable[str]) -> tuple[str, tuple[Reference, ...]]:
    """Methods text and references of the components that ran.

    Parameters
    ----------
    components
        Names in the order they ran; a name met twice is described once. One without an entry gets a sentence that
        names it, so that nothing that ran goes unsaid.

    Returns
    -------
    tuple
        One paragraph, with reference numbers in brackets, and the references in the order of their numbers.
    """
    sentences: list[str] = []
    cited: list[str] = []
    for component in dict.fromkeys(components):
        method = METHODS.get(component, Method(f"The component {component!r} was used; it has no published reference."))
        cited += [key for key in method.keys if key not in cited]
        numbers = ", ".join(str(cited.index(key) + 1) for key in method.keys)
        sentences.append(f"{method.sentence[:-1]} [{numbers}]." if numbers else method.sentence)
    return " ".join(sentences), tuple(REFERENCES[key] for key in cited)
