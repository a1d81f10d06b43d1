"""Pictures and reports; the only floor that imports matplotlib."""

from simscope.show.crlb import BoundCurve, crlb_figure, recipe_bound_curve
from simscope.show.curves import Trial, precision_figure, training_figure
from simscope.show.design import design_figure
from simscope.show.fitting import fit_study_figure
from simscope.show.gallery import gallery_figure
from simscope.show.judging import judging_figure
from simscope.show.optics import psf_figure, recipe_psf_figure
from simscope.show.reconstruction import reconstruction_figure
from simscope.show.report import (
    Code,
    Contents,
    Folded,
    Missing,
    Picture,
    Points,
    Section,
    Table,
    Text,
    Verdicts,
    write_report,
)
from simscope.show.samples import contact_sheet, failure_sheet
from simscope.show.style import png_bytes, require_picture_name, save_figure

__all__ = [
    "BoundCurve",
    "Code",
    "Contents",
    "Folded",
    "Missing",
    "Picture",
    "Points",
    "Section",
    "Table",
    "Text",
    "Trial",
    "Verdicts",
    "contact_sheet",
    "crlb_figure",
    "design_figure",
    "failure_sheet",
    "fit_study_figure",
    "gallery_figure",
    "judging_figure",
    "png_bytes",
    "precision_figure",
    "psf_figure",
    "recipe_bound_curve",
    "recipe_psf_figure",
    "reconstruction_figure",
    "require_picture_name",
    "save_figure",
    "training_figure",
    "write_report",
]
