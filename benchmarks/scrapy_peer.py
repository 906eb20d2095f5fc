"""Scrapy + trafilatura on a list of URLs, run by the interpreter of Scrapy's own environment.

    python scrapy_peer.py URLS_FILE CONCURRENCY

Prints one line of JSON: pages, seconds from the spider's opening to its last
page, processor seconds meanwhile, peak MiB, characters of text found.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import scrapy
import trafilatura
from scrapy import signals
from scrapy.crawler import CrawlerProcess
from scrapy.http import Response


class Pages(scrapy.Spider):
    """Every page is fetched and understood; nothing is stored."""

    name = "pages"

    def __init__(self, urls: list[str]) -> None:
        super().__init__()
        self.urls = urls
        self.pages = self.characters = 0
        self.began = self.spent = self.seconds = self.cpu = 0.0

    def opened(self) -> None:
        """Every part is loaded now; what follows is measured."""
        self.began, self.spent = time.perf_counter(), time.process_time()

    async def start(self) -> AsyncIterator[scrapy.Request]:
        for url in self.urls:
            yield scrapy.Request(url, dont_filter=True)

    def parse(self, response: Response) -> None:
        found = trafilatura.bare_extraction(
            response.body, fast=True, include_comments=False, with_metadata=True
        )
        self.pages += 1
        self.characters += len((found.text or "") if found else "")
        self.seconds = time.perf_counter() - self.began
        self.cpu = time.process_time() - self.spent


def settings(concurrency: int) -> dict[str, object]:
    return {
        "ASYNCIO_EVENT_LOOP": "uvloop.Loop",
        "AUTOTHROTTLE_ENABLED": False,
        "CONCURRENT_REQUESTS": concurrency,
        "CONCURRENT_REQUESTS_PER_DOMAIN": concurrency,
        "COOKIES_ENABLED": False,
        "DOWNLOAD_DELAY": 0,
        "LOG_LEVEL": "ERROR",
        "ROBOTSTXT_OBEY": False,
        "TELNETCONSOLE_ENABLED": False,
    }


def main() -> None:
    urls = Path(sys.argv[1]).read_text().split()
    trafilatura.bare_extraction("<html><body><p>Warm, of 3 March 2004.</p></body></html>")
    process = CrawlerProcess(settings(int(sys.argv[2])))
    crawler = process.create_crawler(Pages)
    process.crawl(crawler, urls=urls)
    crawler.signals.connect(lambda spider: spider.opened(), signals.spider_opened, weak=False)
    process.start()
    spider = crawler.spider
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "pages": spider.pages,
                "seconds": spider.seconds,
                "cpu": spider.cpu,
                "peak": peak,
                "characters": spider.characters,
            }
        )
    )


if __name__ == "__main__":
    main()
