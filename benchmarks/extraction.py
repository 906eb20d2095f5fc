"""How good and how dear extraction is, beside trafilatura, on pages with a known text.

    python benchmarks/extraction.py --pages DIR [--json] [--repeats 3]

DIR holds `<id>.html.gz` and `ground-truth.json` as in scrapinghub's
article-extraction-benchmark, whose metric is used: bags of 4-word shingles,
precision and recall a page, their means, and F1 of the means. Cost is
processor time of this process, the best of the repeats, all in one run.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import trafilatura
from selectolax.lexbor import LexborHTMLParser

from chrono_ray.extraction.extract import extract
from chrono_ray.extraction.main_text import main_text
from chrono_ray.extraction.survey import survey

PAGES = Path(__file__).resolve().parents[2] / "shared/data/pages"
SHINGLE = 4
_TOKEN = re.compile(r"\w+", re.UNICODE)
RESAMPLES = 300

Extractor = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Score:
    """`spread` is the bootstrap standard deviation of `f1`; times are cpu-ms a page."""

    name: str
    f1: float
    precision: float
    recall: float
    spread: float
    milliseconds: float
    ratio: float


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """4-word shingles with their counts; a shorter text is one shingle."""
    tokens = _TOKEN.findall(text or "")
    if not tokens:
        return Counter()
    last = max(1, len(tokens) - SHINGLE + 1)
    return Counter(tuple(tokens[i : i + SHINGLE]) for i in range(last))


def compare(expected: str, found: str) -> tuple[float, float, float]:
    """(true positive, false positive, false negative) shares of one page."""
    wanted, got = shingles(expected), shingles(found)
    true = sum((wanted & got).values())
    false = sum((got - wanted).values())
    missed = sum((wanted - got).values())
    total = true + false + missed
    return (true / total, false / total, missed / total) if total else (0.0, 0.0, 0.0)


def totals(rows: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """(F1, precision, recall) over pages, as the data set's own script computes them."""
    precisions = [tp / (tp + fp) if fp or tp else 0.0 for tp, fp, fn in rows if tp or fp or fn]
    recalls = [tp / (tp + fn) if fn or tp else 1.0 for tp, fp, fn in rows if tp or fp or fn]
    precision, recall = statistics.fmean(precisions), statistics.fmean(recalls)
    return 2 * precision * recall / (precision + recall), precision, recall


def spread(rows: list[tuple[float, float, float]]) -> float:
    dice = random.Random(0)
    return statistics.stdev(totals(dice.choices(rows, k=len(rows)))[0] for _ in range(RESAMPLES))


def ours(body: bytes) -> str:
    return extract(body, media_type="text/html", charset="", url="").text


def ours_text_only(body: bytes) -> str:
    markup = body.decode("utf-8", "replace")
    body_node = LexborHTMLParser(markup).body
    return main_text(markup, survey(body_node)) if body_node is not None else ""


def fast(body: bytes, *, metadata: bool = False) -> str:
    found = trafilatura.bare_extraction(
        body, fast=True, include_comments=False, with_metadata=metadata
    )
    return (found.text or "") if found else ""


def fast_with_metadata(body: bytes) -> str:
    return fast(body, metadata=True)


EXTRACTORS: dict[str, Extractor] = {
    "chrono_ray (whole document)": ours,
    "chrono_ray (main text only)": ours_text_only,
    "trafilatura fast": fast,
    "trafilatura fast, with metadata": fast_with_metadata,
}


def read_pages(folder: Path) -> list[Page]:
    truth = orjson.loads((folder / "ground-truth.json").read_bytes())
    return [
        Page(gzip.decompress((folder / f"{name}.html.gz").read_bytes()), row["articleBody"])
        for name, row in sorted(truth.items())
    ]


def cost(extractor: Extractor, pages: list[Page]) -> float:
    began = time.process_time()
    for page in pages:
        extractor(page.body)
    return (time.process_time() - began) / len(pages) * 1000


def measure(pages: list[Page], repeats: int) -> list[Score]:
    """Repeats alternate between extractors, so that a busy moment hits them alike."""
    rows = {
        name: [compare(page.text, extractor(page.body)) for page in pages]
        for name, extractor in EXTRACTORS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in EXTRACTORS}
    for _ in range(repeats):
        for name, extractor in EXTRACTORS.items():
            times[name].append(cost(extractor, pages))
    reference = min(times["trafilatura fast"])
    return [
        Score(name, *totals(rows[name]), spread(rows[name]), min(spent), min(spent) / reference)
        for name, spent in times.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, default=PAGES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.pages / "ground-truth.json").exists():
        print(f"No ground-truth.json in {options.pages}", file=sys.stderr)
        return 2
    logging.disable(logging.CRITICAL)
    pages = read_pages(options.pages)
    scores = measure(pages, options.repeats)
    if options.json:
        print(orjson.dumps({"pages": len(pages), "scores": [asdict(s) for s in scores]}).decode())
        return 0
    print(f"{'':32} {'F1':>6} {'+-':>6} {'P':>6} {'R':>6} {'cpu-ms':>7} {'ratio':>6}")
    for s in scores:
        print(
            f"{s.name:32} {s.f1:6.3f} {s.spread:6.3f} {s.precision:6.3f} {s.recall:6.3f}"
            f" {s.milliseconds:7.2f} {s.ratio:6.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
