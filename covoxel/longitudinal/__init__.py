"""Longitudinal studies: one template a subject, volumes at each visit, rates of change and what they are worth."""

from covoxel.longitudinal.base import Series, SeriesSettings
from covoxel.longitudinal.change import carried, jacobian_volumes, log_jacobian, probable_volumes
from covoxel.longitudinal.evidence import visit_probabilities
from covoxel.longitudinal.floor import Floor, floor_of
from covoxel.longitudinal.model import Effect, Fitted, fit_model
from covoxel.longitudinal.network import Says, mean_probabilities, network_probabilities
from covoxel.longitudinal.rates import Line, Rate, percent_of, rate_of, robust_line, scatter_of
from covoxel.longitudinal.series import add_visits, build_series, inverse_of, levelled
from covoxel.longitudinal.times import DateError, parse_date, years_since_first

__all__ = [
    "DateError",
    "Effect",
    "Fitted",
    "Floor",
    "Line",
    "Rate",
    "Says",
    "Series",
    "SeriesSettings",
    "add_visits",
    "build_series",
    "carried",
    "fit_model",
    "floor_of",
    "inverse_of",
    "jacobian_volumes",
    "levelled",
    "log_jacobian",
    "mean_probabilities",
    "network_probabilities",
    "parse_date",
    "percent_of",
    "probable_volumes",
    "rate_of",
    "robust_line",
    "scatter_of",
    "visit_probabilities",
    "years_since_first",
]
