"""What the tests of the distortions share."""

import jaxtyping
import pytest


@pytest.fixture
def without_type_checks():
    """Runtime type checks would refuse these arguments before our own, more helpful error can."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
