"""One HTML file that shows a store to people, and loads nothing from elsewhere.

survey     the numbers, by one pass over the list of entries; no payload is read
pictures   drawn by matplotlib as SVG
page       the HTML
"""

from ampstore.report.page import write_report
from ampstore.report.survey import Survey, survey

__all__ = ["Survey", "survey", "write_report"]
