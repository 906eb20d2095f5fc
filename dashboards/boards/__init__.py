"""The boards, in the order in which one looks at them."""

from typing import Final

from dashboards.board import Board
from dashboards.boards.actors import ACTORS
from dashboards.boards.api import API
from dashboards.boards.indexing import INDEXING
from dashboards.boards.overview import OVERVIEW
from dashboards.boards.scraping import SCRAPING
from dashboards.boards.storing import STORING

BOARDS: Final[tuple[Board, ...]] = (OVERVIEW, API, SCRAPING, INDEXING, STORING, ACTORS)
