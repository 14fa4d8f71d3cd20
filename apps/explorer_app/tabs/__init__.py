"""One tab each; `TABS` is their order on the page."""

from explorer_app.tabs import about, attention, attribution, embeddings, lab, patches, predict, robustness, train

TABS = tuple(tab.TAB for tab in (attention, patches, embeddings, train, robustness, predict, attribution, lab, about))
