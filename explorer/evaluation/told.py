"""Where the weights of several networks came from, a line each; a trained student is not taken for its teacher.

Enters: backbones by name. Leaves: lines for people.
"""

from collections.abc import Mapping

from explorer.models.backbones import Backbone
from explorer.models.students import TEACHER
from explorer.models.weights import state_digest


def sources_of(networks: Mapping[str, Backbone]) -> dict[str, str]:
    """The line of each network; one of other weights than the teacher's never has the teacher's line."""
    teacher = networks[TEACHER]
    return {name: _source(backbone, teacher) for name, backbone in networks.items()}


def _source(backbone: Backbone, teacher: Backbone) -> str:
    if backbone.source != teacher.source or backbone.module is teacher.module:
        return backbone.source
    digests = {state_digest(each.module.state_dict()) for each in (backbone, teacher)}
    return backbone.source if len(digests) == 1 else f"{backbone.source}, changed since"
