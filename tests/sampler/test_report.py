import math

import pytest

from streamsketch.errors import DataError
from streamsketch.sampler import Sampler, sampling_report
from testing.toys import gaussian_generator


@pytest.mark.parametrize("d", [1, 2, 5])
def test_report_shows_the_gain_and_a_picture(d):
    sampler = Sampler(gaussian_generator(d, frequencies=256))
    sampler.sample(10)
    rows = sampler.sample(64)
    report = sampling_report(sampler, rows)
    assert report.outputs == 74
    ours, iid = report.scores["energy gain"]
    assert ours > 1.5 * iid
    assert report.scores["duplicates"] == (0.0, 0.0)
    assert all(math.isfinite(v) for pair in report.scores.values() for v in pair)
    assert report.picture.startswith(b"\x89PNG")


def test_held_out_rows_are_the_reference_where_given():
    sampler = Sampler(gaussian_generator())
    rows = sampler.sample(16)
    held = gaussian_generator().schema.decode(gaussian_generator().sample_encoded(500, seed=77))
    assert sampling_report(sampler, rows, held=held).reference == "held-out rows"


def test_one_row_is_refused():
    sampler = Sampler(gaussian_generator())
    with pytest.raises(DataError):
        sampling_report(sampler, sampler.sample(1))
