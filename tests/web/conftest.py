"""What the tests of all views share."""

from collections.abc import Iterator

import pytest
from opening import Opener
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def opener(browser: Browser) -> Iterator[Opener]:
    made = Opener(browser)
    yield made
    made.close(shared=True)


@pytest.fixture
def open_view(opener: Opener) -> Iterator[Opener]:
    opener.complaints.clear()
    yield opener
    opener.close()
    assert not opener.complaints, f"the page complained: {opener.complaints}"
