"""Many evaluations at once: methods x data sets, what is expected of each, one table."""

from ovseg.suite.cells import Cell, cell_config, evaluate_cell, finished_cell
from ovseg.suite.definition import Suite, SuiteData, SuiteMethod, read_suite
from ovseg.suite.tables import write_tables

__all__ = [
    "Cell",
    "Suite",
    "SuiteData",
    "SuiteMethod",
    "cell_config",
    "evaluate_cell",
    "finished_cell",
    "read_suite",
    "write_tables",
]
