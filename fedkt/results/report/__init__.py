"""``report.html``: one file that opens without a network, of a comparison or of a single run."""

from fedkt.results.report.page import report_of, write_report

__all__ = ["report_of", "write_report"]
