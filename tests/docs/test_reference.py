"""The reference pages state what the code does: they are written from it."""

import pytest
import reference_pages

from edge.event import EVENT_TYPES


@pytest.mark.parametrize("page", reference_pages.WRITERS)
def test_a_reference_page_equals_what_the_code_gives(page):
    """A page that differs was not written again: `make docs`."""
    assert (reference_pages.DOCS / page).read_text("utf-8") == reference_pages.WRITERS[page](), "run `make docs`"


def test_each_event_type_has_a_sentence():
    """A new event type needs a sentence that says when it is published."""
    assert set(reference_pages.WHEN) == set(EVENT_TYPES)
