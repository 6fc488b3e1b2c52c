"""Pages for people: the status board and the monthly review, each one self-contained HTML file."""

from sqm.review.pages import board_over, render_board, render_review
from sqm.review.restated import Restatements

__all__ = ["Restatements", "board_over", "render_board", "render_review"]
