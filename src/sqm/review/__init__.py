"""Pages for people: status board, monthly review, validation; each one self-contained HTML file."""

from sqm.review.pages import board_over, render_board, render_review
from sqm.review.restated import Restatements
from sqm.review.validation import write_validation_pages

__all__ = [
    "Restatements",
    "board_over",
    "render_board",
    "render_review",
    "write_validation_pages",
]
