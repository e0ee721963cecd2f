"""What ran, in sentences a paper can take over, each with its reference."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication: BibTeX key, the reference in one line, and its BibTeX entry."""

    key: str
    text: str
    bibtex: str


@dataclass(frozen=True)
class Method:
    """A component's sentence and the keys of its references."""

    sentence: str
    keys: tuple[str, ...] = ()


def _article(key: str, author: str, title: str, journal: str, year: int, at: str, doi: str) -> Reference:
    first = author.split(" and ")[0].split(",")[0]
    others = " et al." if author.count(" and ") > 1 else ""
    second = f" & {author.split(' and ')[1].split(',')[0]}" if author.count(" and ") == 1 else ""
    volume, pages = at.split(":")
    return Reference(
        key,
        f"{first}{second}{others or '.'} {title}. {journal} {volume}:{pages}, {year}. doi:{doi}",
        f"@article{{{key},\n  author = {{{author}}},\n  title = {{{title}}},\n  journal = {{{journal}}},\n"
        f"  year = {{{year}}},\n  volume = {{{volume}}},\n  pages = {{{pages.replace('–', '--')}}},\n"
        f"  doi = {{{doi}}}\n}}",
    )


_PAMI = "IEEE Transactions on Pattern Analysis and Machine Intelligence"
_MEDIA, _TMI, _NI = "Medical Image Analysis", "IEEE Transactions on Medical Imaging", "NeuroImage"

REFERENCES: dict[str, Reference] = {
    reference.key: reference
    for reference in (
        _article(
            "jenkinson2001",
            "Jenkinson, Mark and Smith, Stephen",
            "A global optimisation method for robust affine registration of brain images",
            _MEDIA,
            2001,
            "5:143–156",
            "10.1016/S1361-8415(01)00036-6",
        ),
        _article(
            "ashburner2007",
            "Ashburner, John",
            "A fast diffeomorphic image registration algorithm",
            _NI,
            2007,
            "38:95–113",
            "10.1016/j.neuroimage.2007.07.007",
        ),
        _article(
            "arsigny2006",
            "Arsigny, Vincent and Commowick, Olivier and Pennec, Xavier and Ayache, Nicholas",
            "A log-Euclidean framework for statistics on diffeomorphisms",
            "MICCAI, LNCS",
            2006,
            "4190:924–931",
            "10.1007/11866565_113",
        ),
        _article(
            "avants2008",
            "Avants, Brian B. and Epstein, Charles L. and Grossman, Murray and Gee, James C.",
            "Symmetric diffeomorphic image registration with cross-correlation",
            _MEDIA,
            2008,
            "12:26–41",
            "10.1016/j.media.2007.06.004",
        ),
        _article(
            "studholme1999",
            "Studholme, Colin and Hill, Derek L. G. and Hawkes, David J.",
            "An overlap invariant entropy measure of 3D medical image alignment",
            "Pattern Recognition",
            1999,
            "32:71–86",
            "10.1016/S0031-3203(98)00091-0",
        ),
        _article(
            "heinrich2013",
            "Heinrich, Mattias P. and Jenkinson, Mark and Papież, Bartłomiej W. and Brady, Michael and "
            "Schnabel, Julia A.",
            "Towards realtime multimodal fusion for image-guided interventions using self-similarities",
            "Medical Image Computing and Computer-Assisted Intervention",
            2013,
            "LNCS 8149:187–194",
            "10.1007/978-3-642-40811-3_24",
        ),
        _article(
            "heckemann2006",
            "Heckemann, Rolf A. and Hajnal, Joseph V. and Aljabar, Paul and Rueckert, Daniel and Hammers, Alexander",
            "Automatic anatomical brain MRI segmentation combining label propagation and decision fusion",
            _NI,
            2006,
            "33:115–126",
            "10.1016/j.neuroimage.2006.05.061",
        ),
        _article(
            "artaechevarria2009",
            "Artaechevarria, Xabier and Munoz-Barrutia, Arrate and Ortiz-de-Solorzano, Carlos",
            "Combination strategies in multi-atlas image segmentation: application to brain MR data",
            _TMI,
            2009,
            "28:1266–1277",
            "10.1109/TMI.2009.2014372",
        ),
        _article(
            "warfield2004",
            "Warfield, Simon K. and Zou, Kelly H. and Wells, William M.",
            "Simultaneous truth and performance level estimation (STAPLE): an algorithm for the validation of image "
            "segmentation",
            _TMI,
            2004,
            "23:903–921",
            "10.1109/TMI.2004.828354",
        ),
        _article(
            "wang2013",
            "Wang, Hongzhi and Suh, Jung W. and "  # codespell:ignore suh
            "Das, Sandhitsu R. and Pluta, John B. and Craige, Caryne and Yushkevich, Paul A.",
            "Multi-atlas segmentation with joint label fusion",
            _PAMI,
            2013,
            "35:611–623",
            "10.1109/TPAMI.2012.143",
        ),
        _article(
            "weihsbach2022",
            "Weihsbach, Christian and Bigalke, Alexander and Kruse, Christian N. and Hempe, Hellena and "
            "Heinrich, Mattias P.",
            "DeepSTAPLE: learning to predict multimodal registration quality for unsupervised domain adaptation",
            "Biomedical Image Registration",
            2022,
            "LNCS 13386:37–46",
            "10.1007/978-3-031-11203-4_5",
        ),
        _article(
            "kittler1998",
            "Kittler, Josef and Hatef, Mohamad and Duin, Robert P. W. and Matas, Jiri",
            "On combining classifiers",
            _PAMI,
            1998,
            "20:226–239",
            "10.1109/34.667881",
        ),
        _article(
            "aljabar2009",
            "Aljabar, Paul and Heckemann, Rolf A. and Hammers, Alexander and Hajnal, Joseph V. and Rueckert, Daniel",
            "Multi-atlas based segmentation of brain images: atlas selection and its effect on accuracy",
            _NI,
            2009,
            "46:726–738",
            "10.1016/j.neuroimage.2009.02.018",
        ),
        _article(
            "valindria2017",
            "Valindria, Vanya V. and Lavdas, Ioannis and Bai, Wenjia and Kamnitsas, Konstantinos and "
            "Aboagye, Eric O. and Rockall, Andrea G. and Rueckert, Daniel and Glocker, Ben",
            "Reverse classification accuracy: predicting segmentation performance in the absence of ground truth",
            _TMI,
            2017,
            "36:1597–1606",
            "10.1109/TMI.2017.2665165",
        ),
        _article(
            "tustison2010",
            "Tustison, Nicholas J. and Avants, Brian B. and Cook, Philip A. and Zheng, Yuanjie and Egan, Alexander "
            "and Yushkevich, Paul A. and Gee, James C.",
            "N4ITK: Improved N3 bias correction",
            _TMI,
            2010,
            "29:1310–1320",
            "10.1109/TMI.2010.2046908",
        ),
        _article(
            "dice1945",
            "Dice, Lee R.",
            "Measures of the amount of ecologic association between species",
            "Ecology",
            1945,
            "26:297–302",
            "10.2307/1932409",
        ),
    )
}

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
    "lncc": Method("Similarity was local normalised cross-correlation.", ("avants2008",)),
    "nmi": Method("Similarity was normalised mutual information.", ("studholme1999",)),
    "ncc": Method("Similarity was the correlation coefficient.", ()),
    "mse": Method("Similarity was the mean squared difference.", ()),
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
