"""What the tests of all views share."""

from collections.abc import Iterator

import pytest
from opening import Opener
from playwright.sync_api import Browser


@pytest.fixture
def open_view(browser: Browser) -> Iterator[Opener]:
    opener = Opener(browser)
    yield opener
    for context in opener.contexts:
        context.close()
    assert not opener.complaints, f"the page complained: {opener.complaints}"
