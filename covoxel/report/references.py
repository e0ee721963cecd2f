"""Publications of what covoxel uses, each in one line and as BibTeX."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication: BibTeX key, the reference in one line, and its BibTeX entry."""

    key: str
    text: str
    bibtex: str


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
            "wang2011",
            "Wang, Hongzhi and Das, Sandhitsu R. and Suh, Jung W. and "  # codespell:ignore suh
            "Altinay, Murat and Pluta, John and Craige, Caryne and Avants, Brian and Yushkevich, Paul A.",
            "A learning-based wrapper method to correct systematic errors in automatic image segmentation: "
            "consistently improved performance in hippocampus, cortex and brain segmentation",
            _NI,
            2011,
            "55:968–985",
            "10.1016/j.neuroimage.2011.01.006",
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
        _article(
            "wells1996",
            "Wells, William M. and Viola, Paul and Atsumi, Hideki and Nakajima, Shin and Kikinis, Ron",
            "Multi-modal volume registration by maximization of mutual information",
            _MEDIA,
            1996,
            "1:35–51",
            "10.1016/S1361-8415(01)80004-9",
        ),
        _article(
            "wang2004",
            "Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.",
            "Image quality assessment: from error visibility to structural similarity",
            "IEEE Transactions on Image Processing",
            2004,
            "13:600–612",
            "10.1109/TIP.2003.819861",
        ),
        _article(
            "haber2006",
            "Haber, Eldad and Modersitzki, Jan",
            "Intensity gradient based registration and fusion of multi-modal images",
            "Medical Image Computing and Computer-Assisted Intervention",
            2006,
            "LNCS 4191:726–733",
            "10.1007/11866763_89",
        ),
        _article(
            "mok2022",
            "Mok, Tony C. W. and Chung, Albert C. S.",
            "Affine medical image registration with coarse-to-fine vision transformer",
            "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
            2022,
            "CVPR:20803–20812",
            "10.1109/CVPR52688.2022.02017",
        ),
        _article(
            "huang2021",
            "Huang, Weijian and Yang, Hao and Liu, Xinfeng and Li, Cheng and Zhang, Ian and Wang, Rongpin and "
            "Zheng, Hairong and Wang, Shanshan",
            "A coarse-to-fine deformable transformation framework for unsupervised multi-contrast MR image "
            "registration with dual consistency constraint",
            _TMI,
            2021,
            "40:2589–2599",
            "10.1109/TMI.2021.3059282",
        ),
        _article(
            "balakrishnan2019",
            "Balakrishnan, Guha and Zhao, Amy and Sabuncu, Mert R. and Guttag, John and Dalca, Adrian V.",
            "VoxelMorph: a learning framework for deformable medical image registration",
            _TMI,
            2019,
            "38:1788–1800",
            "10.1109/TMI.2019.2897538",
        ),
        _article(
            "wolz2010",
            "Wolz, Robin and Aljabar, Paul and Hajnal, Joseph V. and Hammers, Alexander and Rueckert, Daniel",
            "LEAP: learning embeddings for atlas propagation",
            "NeuroImage",
            2010,
            "49:1316–1325",
            "10.1016/j.neuroimage.2009.09.069",
        ),
        _article(
            "wang2018",
            "Wang, Hongzhi and Zhang, Rui",
            "Atlas propagation through template selection",
            "MICCAI",
            2018,
            "LNCS 11070:chapter 80",
            "10.1007/978-3-030-00928-1_80",
        ),
        _article(
            "joshi2004",
            "Joshi, S. and Davis, Brad and Jomier, Matthieu and Gerig, Guido",
            "Unbiased diffeomorphic atlas construction for computational anatomy",
            "NeuroImage",
            2004,
            "23:S151–S160",
            "10.1016/j.neuroimage.2004.07.068",
        ),
        _article(
            "isensee2021",
            "Isensee, Fabian and others",
            "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
            "Nature Methods",
            2021,
            "18:203–211",
            "10.1038/s41592-020-01008-z",
        ),
        _article(
            "xu2019",
            "Xu, Zhenlin and Niethammer, Marc",
            "DeepAtlas: joint semi-supervised learning of image registration and segmentation",
            "Medical Image Computing and Computer Assisted Intervention",
            2019,
            "LNCS 11765:420–429",
            "10.1007/978-3-030-32245-8_47",
        ),
        _article(
            "beljaards2020",
            "Beljaards, Laurens and Elmahdy, Mohamed S. and Verbeek, Fons and Staring, Marius",
            "A cross-stitch architecture for joint registration and segmentation in adaptive radiotherapy",
            "Medical Imaging with Deep Learning",
            2020,
            "PMLR 121:62–74",
            "10.48550/arXiv.2004.08122",
        ),
        _article(
            "misra2016",
            "Misra, Ishan and Shrivastava, Abhinav and Gupta, Abhinav and Hebert, Martial",
            "Cross-stitch networks for multi-task learning",
            "IEEE Conference on Computer Vision and Pattern Recognition",
            2016,
            "CVPR:3994–4003",
            "10.1109/CVPR.2016.433",
        ),
        _article(
            "heinrich2022",
            "Heinrich, Mattias P. and Hansen, Lasse",
            "VoxelMorph++: going beyond the cranial vault with keypoint supervision and multi-channel instance "
            "optimisation",
            "Biomedical Image Registration",
            2022,
            "LNCS 13386:85–95",
            "10.1007/978-3-031-11203-4_10",
        ),
    )
}
