"""The students in assets/pairs: they load strictly, they are small, and they see through what they were trained on."""

import pytest
import torch

import explorer as ex
from explorer.evaluation.probes import retrieval_at_1
from explorer.models.backbones import Backbone
from explorer.system.files import asset_path
from tests.nightly import left

LIMIT_BYTES = 16_000_000
