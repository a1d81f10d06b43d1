"""Datasets on disk: HDF5 files with images, exact truth, drawn parameters and the recipe."""

from simscope.dataset.describing import Description, Unfinished, describe
from simscope.dataset.describing import tree as array_tree
from simscope.dataset.differences import Delta, difference
from simscope.dataset.export import export_dataset
from simscope.dataset.forecasting import Forecast, forecast, forecast_rows, readable_bytes
from simscope.dataset.generation import generate
from simscope.dataset.loading import Batches, batches
from simscope.dataset.output import output_target
from simscope.dataset.read import Dataset, open_dataset
from simscope.dataset.tables import (
    read_emitters,
    read_localizations,
    read_truth,
    write_localizations,
)
from simscope.dataset.verifying import Verdict, verify

__all__ = [
    "Batches",
    "Dataset",
    "Delta",
    "Description",
    "Forecast",
    "Unfinished",
    "Verdict",
    "array_tree",
    "batches",
    "describe",
    "difference",
    "export_dataset",
    "forecast",
    "forecast_rows",
    "generate",
    "open_dataset",
    "output_target",
    "read_emitters",
    "read_localizations",
    "read_truth",
    "readable_bytes",
    "verify",
    "write_localizations",
]
