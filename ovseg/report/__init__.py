"""The error report of an evaluation: where a method is wrong on a data set, as one HTML page that stands alone."""

from ovseg.report.hook import ReportHook
from ovseg.report.page import error_sections, suite_page

__all__ = ["ReportHook", "error_sections", "suite_page"]
