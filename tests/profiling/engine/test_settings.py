"""No setting can be forgotten where a measurement is resumed: each shows in the texts that are compared."""

import attrs
import pytest

from layerlens_core.errors import DataError
from layerlens_core.profiling.engine.settings import Settings

PLAIN = Settings(needs=("sample_norms",))
#: Another value of every setting.
OTHERS = {
    "needs": {"gradient_norms"},
    "group_size": 3,
    "micro_batch": 4,
    "route": "direct",
    "sketch_columns": 8,
    "directions": True,
    "rank": 5,
    "seed": 1,
    "stages": (32, 64),
    "compile": ("model.layers.0",),
    "warm_up": "70 steps",
}


def test_every_setting_is_tried_below():
    assert set(OTHERS) == {field.name for field in attrs.fields(Settings)}


@pytest.mark.parametrize("name", OTHERS)
def test_another_value_shows(name):
    other = attrs.evolve(PLAIN, **{name: OTHERS[name]})
    assert {each for each in PLAIN.texts if PLAIN.texts[each] != other.texts[each]} == {name}


def test_texts_do_not_depend_on_the_order_of_needs():
    one, other = (Settings(needs=needs) for needs in (("a", "b", "c"), ("c", "a", "b")))
    assert one == other
    assert one.texts == other.texts
    assert one.texts["needs"] == "a, b, c"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_size": 0}, "group and micro_batch are at least 1, but are 0 and auto"),
        ({"micro_batch": 0}, "group and micro_batch are at least 1, but are 2 and 0"),
        ({"sketch_columns": 1}, "sketches have at least 2 columns"),
        ({"sketch_columns": 8, "directions": True}, "asked for were directions, sample_norms"),
        ({"sketch_columns": 8, "needs": {"weight_gradient"}}, "use --scores exact, or metrics such as fisher"),
    ],
)
def test_what_no_measurement_can_have_is_refused(settings, message):
    with pytest.raises(DataError, match=message):
        attrs.evolve(PLAIN, **settings).check()
