"""Datasets on disk: HDF5 files with images, exact truth, drawn parameters and the recipe."""

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

__all__ = [
    "Batches",
    "Dataset",
    "Forecast",
    "batches",
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
    "write_localizations",
]
