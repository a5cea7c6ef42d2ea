"""What tests of the montage share."""

import warnings

import pytest


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
