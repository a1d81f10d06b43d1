"""Trust: studies of networks, and the report of what they can and cannot do."""

from simscope.trust.report import examine, report_on, run_study
from simscope.trust.study import Study, load_study, packaged_studies

__all__ = ["Study", "examine", "load_study", "packaged_studies", "report_on", "run_study"]
